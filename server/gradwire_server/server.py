"""The server: all floors put together."""

import asyncio
import gc
import importlib
import os
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog
from grpc_channelz.v1 import channelz
from grpc_reflection.v1alpha import reflection

from gradwire_server.access.identity import DEFAULT_TENANT, Role
from gradwire_server.access.quotas import Quotas
from gradwire_server.access.tokens import TokenEntry, Tokens, TokensFileError
from gradwire_server.config import Settings, SettingsError
from gradwire_server.errors import GradwireError
from gradwire_server.lifetime import Lifetime
from gradwire_server.observability.audit import AuditLog
from gradwire_server.observability.collector import StateCollector
from gradwire_server.observability.figures import Lookout
from gradwire_server.observability.metrics import Metrics
from gradwire_server.observability.observer import Observer
from gradwire_server.observability.tracing import Tracing, TracingUnavailableError
from gradwire_server.runs.registry import RunRegistry
from gradwire_server.sessions.parking import Parking
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.storage import Storage, StorageConfig
from gradwire_server.transport.accepting import make_grpc_server
from gradwire_server.transport.addresses import Address
from gradwire_server.transport.auth import AccessInterceptor
from gradwire_server.transport.datasets import DatasetRpcs
from gradwire_server.transport.front import FrontRpcs, installed_version
from gradwire_server.transport.handlers import Handlers
from gradwire_server.transport.health import SERVICE_NAME as HEALTH_SERVICE
from gradwire_server.transport.health import Health
from gradwire_server.transport.kept import KeptRpcs
from gradwire_server.transport.listening import listen
from gradwire_server.transport.options import server_options
from gradwire_server.transport.region_socket import RegionSocket
from gradwire_server.transport.routes import SERVICES
from gradwire_server.transport.tls import TlsFileError, server_credentials
from gradwire_server.transport.traffic import Traffic, cut_off, shutting_down
from gradwire_server.workers.devices import NoSuchDeviceError, find_devices, parse_devices
from gradwire_server.workers.launcher import WORKER_COMMAND, Launcher
from gradwire_server.workers.pool import WorkerPool

if TYPE_CHECKING:
    from gradwire_server.page import Page
    from gradwire_server.transport.scraping import Scraping

log = structlog.get_logger(__name__)

LAST_WORDS_SECONDS = 1.0
"""How long responses that are ready may take to be sent when the server ends."""

ABANDONED_STATUS = 130
"""The exit status after a second signal."""

WORKER_STOP_SECONDS = 5.0
"""How long workers may take to end when nothing is left to do."""


class Server:
    """A gradwire server, in the running event loop.

    Args:
        settings: All settings.
        worker_command: What runs a worker process.
        owns_folder: Whether the folder of the unix socket goes with the socket.

    Raises:
        SettingsError: The tokens file, a certificate, a key or the storage cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        worker_command: Sequence[str] = WORKER_COMMAND,
        owns_folder: bool = False,
    ) -> None:
        self._owns_folder = owns_folder
        self._settings = settings
        self.address = Address.parse(settings.address)
        self.storage = _open_storage(settings.storage_config)
        launcher = Launcher(
            limits=settings.limits,
            tenants=settings.tenants,
            storage=settings.storage_config,
            log_format=settings.log_format,
            log_level=settings.log_level,
            replay_steps=settings.replay_steps,
            compile_steps=settings.compile_steps,
            command=worker_command,
        )
        self.pool = WorkerPool(launcher)
        quotas = Quotas(settings.limits, settings.tenants)
        self.registry = SessionRegistry(self.pool, settings.limits, quotas)
        self.parking = Parking(self.registry, self.storage)
        self.runs = RunRegistry(self.storage, self.registry, resumes=settings.resume_runs)
        self.traffic = Traffic()
        self._tokens = _make_tokens(settings)
        self._credentials = _make_credentials(settings)
        self.lookout = Lookout(self.pool, self.registry)
        version = installed_version("gradwire")
        self._metrics = (
            None
            if settings.metrics_address is None
            else Metrics(
                StateCollector(self.pool, self.registry, self.runs, self.lookout, version=version)
            )
        )
        self._audit = _open_audit_log(settings.audit_log_file)
        self._tracing = _make_tracing(settings.otlp_endpoint, version)
        self._observer = Observer(metrics=self._metrics, audit=self._audit, tracing=self._tracing)
        self.health = Health(_parse_optional(settings.health_address))
        self.page = _make_page(settings)
        self._scraping = self._make_scraping()
        self._region_socket = RegionSocket(self.registry.regions)
        self._grpc = self._make_grpc_server()
        self._listens = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopped = False
        self.pool.on_change.append(self._tell_health)

    async def start(self) -> None:
        """Listens, and begins to start workers.

        Raises:
            SettingsError: An address cannot be bound, the storage that was asked for cannot be
                written, or a device is not there.
        """
        try:
            await asyncio.to_thread(self._clean_storage)
            devices = await find_devices(parse_devices(self._settings.device))
            await self.runs.load()
            await self._listen()
        except NoSuchDeviceError as error:
            await self._unlisten()
            raise SettingsError(f"device: {error}") from None
        except SettingsError:
            await self._unlisten()
            raise
        log.info(
            "listening",
            address=str(self.address),
            tls=self._credentials is not None,
            tokens=self._tokens is not None,
        )
        self.pool.start(
            devices, num_per_device=self._settings.workers, threads=self._settings.threads
        )
        self._spawn(self.parking.keep_sweeping())
        self._spawn(self.parking.keep_expiring(self._settings.checkpoint_sweep_seconds))
        self._spawn(self.lookout.keep_telling())
        self._spawn(self.runs.keep_looking())

    async def stop(self, drain_timeout_seconds: float) -> None:
        """Refuses new calls, lets those in flight finish, and ends.

        Args:
            drain_timeout_seconds: How long calls in flight may take.
        """
        await self.health.drain()
        if self.page is not None:
            # Its streams are calls, which would not end by themselves.
            await self.page.stop()
        stopping = self.traffic.close(shutting_down())
        self.registry.placement.close(stopping)
        log.info("stopping", calls_in_flight=self.traffic.num_calls)
        await self.runs.stop()
        try:
            async with asyncio.timeout(drain_timeout_seconds):
                await self.parking.park_all(stopping, drain_timeout_seconds / 2)
                await self.traffic.idle()
        except TimeoutError:
            log.warning("calls cut off", calls_in_flight=self.traffic.num_calls)
            self.registry.end_all(cut_off())
            self.pool.kill()
        await self.runs.resign()
        # While nobody else can listen on the address: who finds another server there has seen that
        # the memory of this one is gone.
        self._region_socket.close()
        await self._grpc.stop(LAST_WORDS_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pool.stop(WORKER_STOP_SECONDS)
        await self._unlisten()
        await asyncio.to_thread(self._stop_observing)
        self.stopped = True
        log.info("stopped")

    def abandon(self) -> NoReturn:
        """Ends this process and its workers at once."""
        self.pool.kill()
        self._remove_socket()
        if self.page is not None:
            self.page.remove_folder()
        os._exit(ABANDONED_STATUS)

    def _make_grpc_server(self) -> grpc.aio.Server:
        server = make_grpc_server(
            server_options(self._settings.max_message_bytes, channelz=self._settings.channelz),
            [AccessInterceptor(self._tokens, self._observer)],
        )
        front = FrontRpcs(self.registry, self.parking, self.pool, self.lookout)
        datasets = DatasetRpcs(self.storage, self._settings.limits, self.registry.quotas)
        kept = KeptRpcs(self.runs, self.registry, self.storage)
        handlers = Handlers(
            self.registry,
            self.parking,
            self.runs,
            front,
            datasets,
            kept,
            self.traffic,
            self._observer,
            self._tokens,
        )
        for service, its_handlers in handlers.by_service().items():
            server.add_registered_method_handlers(service, its_handlers)
        self.health.add_to(server)
        if self._settings.channelz:
            channelz.add_channelz_servicer(server)
        names = [service.full_name for service in SERVICES]
        reflection.enable_server_reflection(
            [*names, HEALTH_SERVICE, reflection.SERVICE_NAME], server
        )
        return server

    def _make_scraping(self) -> "Scraping | None":
        address = _parse_optional(self._settings.metrics_address)
        if address is None or self._metrics is None:
            return None
        trusts_hosts = _trusts_hosts(self._settings)
        # Loaded by servers that speak HTTP, not by those that a program starts for itself.
        scraping = importlib.import_module("gradwire_server.transport.scraping")
        http = scraping.HttpServer(
            "metrics", address, self._settings.tls, trusts_hosts=trusts_hosts
        )
        made: Scraping = scraping.Scraping(self._metrics, self._tokens, self._audit, http)
        return made

    def _clean_storage(self) -> None:
        try:
            self.storage.require_writable()
            self.storage.clean()
        except OSError as error:
            if "storage" in self._settings.model_fields_set:
                raise SettingsError(
                    f"storage: cannot write to {self._settings.storage}: {error}"
                ) from None
            # Commands that need no storage work all the same; the others say what is wrong.
            log.warning("storage cannot be written", error=str(error))
        except GradwireError as error:
            log.warning("storage not cleaned", error=error.message)

    async def _listen(self) -> None:
        """Listens on all addresses.

        Raises:
            SettingsError: One of them cannot be listened on.
        """
        name = "address"
        try:
            self.address = listen(self._grpc, self.address, self._credentials)
            self._listens = True
            if self.page is not None:
                listen(self._grpc, Address.parse(self.page.rpc_address))
            name = "metrics_address"
            if self._scraping is not None:
                await self._scraping.http.start()
                log.info("metrics", address=str(self._scraping.http.address))
            name = "health_address"
            await self.health.start()
            name = "page_address"
            if self.page is not None:
                await self.page.start()
                log.info("page", address=str(self.page.address), tls=self._credentials is not None)
        except OSError as error:
            address = getattr(self._settings, name)
            why = error.strerror or error
            raise SettingsError(f"{name}: cannot listen on {address}: {why}") from None
        if self._settings.shared_memory:
            self._region_socket.start(self.address)
        await self._grpc.start()

    async def _unlisten(self) -> None:
        if self.page is not None:
            await self.page.stop()
        await self.health.stop()
        if self._scraping is not None:
            await self._scraping.http.stop()
        await self._grpc.stop(None)
        self._region_socket.close()
        self._remove_socket()

    def _stop_observing(self) -> None:
        for each in (self._tracing, self._audit):
            if each is not None:
                each.close()

    def _remove_socket(self) -> None:
        self._region_socket.remove()
        # The socket of another server stays, if that is why this one does not listen.
        if self._listens and self.address.path is not None:
            self.address.path.unlink(missing_ok=True)
            if self._owns_folder:
                with suppress(OSError):  # it holds something else, or is gone
                    self.address.path.parent.rmdir()

    def _tell_health(self) -> None:
        self._spawn(self.health.set(serving=bool(self.pool.ready)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _parse_optional(address: str | None) -> Address | None:
    return None if address is None else Address.parse(address)


def _make_page(settings: Settings) -> "Page | None":
    address = _parse_optional(settings.page_address)
    if address is None:
        return None
    kind: type[Page] = importlib.import_module("gradwire_server.page").Page
    return kind(address, settings.tls, trusts_hosts=_trusts_hosts(settings))


def _trusts_hosts(settings: Settings) -> bool:
    """Whether what is served over HTTP may be asked for by any name, see `HttpServer`."""
    return settings.wants_token or settings.insecure


def _open_storage(config: StorageConfig) -> Storage:
    try:
        return Storage(config)
    except (GradwireError, ValueError, ImportError) as error:
        raise SettingsError(f"storage: {config.url}: {error}") from None


def _make_tokens(settings: Settings) -> Tokens | None:
    if not settings.wants_token:
        return None
    single = None
    if settings.token is not None:
        token = settings.token.get_secret_value()
        single = TokenEntry.of(token, DEFAULT_TENANT, Role.ADMIN, None)
    try:
        return Tokens(settings.tokens_file, single)
    except TokensFileError as error:
        raise SettingsError(str(error)) from None


def _open_audit_log(path: Path | None) -> AuditLog | None:
    try:
        return None if path is None else AuditLog(path)
    except OSError as error:
        raise SettingsError(f"audit_log_file: {error}") from None


def _make_tracing(endpoint: str | None, version: str) -> Tracing | None:
    try:
        return None if endpoint is None else Tracing(endpoint, version=version)
    except TracingUnavailableError as error:
        raise SettingsError(str(error)) from None


def _make_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    try:
        return None if settings.tls is None else server_credentials(settings.tls)
    except TlsFileError as error:
        raise SettingsError(f"TLS: {error}") from None


async def serve(
    settings: Settings, *, parent_pid: int | None = None, ready_fd: int | None = None
) -> None:
    """Runs a server until it is told to stop.

    Args:
        settings: All settings.
        parent_pid: If given, the server ends when that process, its parent, has ended.
        ready_fd: If given, the end of a pipe to write to, and close, when the server listens.

    Raises:
        SettingsError: See `Server.start`.
    """
    lifetime = Lifetime()
    lifetime.watch_signals()
    # A parent makes a folder for the socket, and can't remove it if it is killed.
    server = Server(settings, owns_folder=parent_pid is not None)
    await server.start()
    if ready_fd is not None:
        with suppress(BrokenPipeError):
            os.write(ready_fd, b"\0")
        os.close(ready_fd)
    # What is there by now stays; no call is to wait while it is looked through for garbage.
    gc.collect()
    gc.freeze()
    watch = asyncio.create_task(lifetime.watch_parent(parent_pid)) if parent_pid else None
    await lifetime.stop.wait()
    # The parent was the only client; nobody waits for answers any more.
    timeout_seconds = 0.0 if lifetime.orphaned else settings.drain_timeout_seconds
    stopping = asyncio.create_task(server.stop(timeout_seconds))
    abandoning = asyncio.create_task(lifetime.abandon.wait())
    await asyncio.wait((stopping, abandoning), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        log.warning("stopped at once")
        server.abandon()
    abandoning.cancel()
    if watch is not None:
        watch.cancel()
    await stopping
