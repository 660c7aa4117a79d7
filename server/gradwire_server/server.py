"""The server: all floors put together."""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gradwire_server.access.identity import DEFAULT_TENANT, Role
from gradwire_server.access.quotas import Quotas
from gradwire_server.access.tokens import TokenEntry, Tokens, TokensFileError
from gradwire_server.config import Settings, SettingsError
from gradwire_server.errors import GradwireError
from gradwire_server.lifetime import Lifetime
from gradwire_server.sessions.registry import SessionRegistry
from gradwire_server.storage import Storage, StorageConfig
from gradwire_server.transport.addresses import Address, remove_stale_socket
from gradwire_server.transport.auth import AccessInterceptor
from gradwire_server.transport.datasets import DatasetRpcs
from gradwire_server.transport.front import FrontRpcs
from gradwire_server.transport.handlers import Handlers
from gradwire_server.transport.options import server_options
from gradwire_server.transport.routes import SERVICES
from gradwire_server.transport.tls import TlsFileError, server_credentials
from gradwire_server.transport.traffic import Traffic, cut_off, shutting_down
from gradwire_server.workers.devices import NoSuchDeviceError, find_devices, parse_devices
from gradwire_server.workers.launcher import WORKER_COMMAND, Launcher
from gradwire_server.workers.pool import WorkerPool

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
            command=worker_command,
        )
        self.pool = WorkerPool(launcher)
        quotas = Quotas(settings.limits, settings.tenants)
        self.registry = SessionRegistry(self.pool, settings.limits, quotas)
        self.traffic = Traffic()
        self._tokens = _make_tokens(settings)
        self._credentials = _make_credentials(settings)
        self._health = health.aio.HealthServicer()
        self._grpc = self._make_grpc_server()
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopped = False
        self.pool.on_change.append(self._tell_health)

    async def start(self) -> None:
        """Listens, and begins to start workers.

        Raises:
            SettingsError: The address cannot be bound, or a device is not there.
        """
        await asyncio.to_thread(self._clean_storage)
        await self._set_health(serving=False)
        self._bind()
        await self._grpc.start()
        log.info(
            "listening",
            address=str(self.address),
            tls=self._credentials is not None,
            tokens=self._tokens is not None,
        )
        try:
            devices = await find_devices(parse_devices(self._settings.device))
        except NoSuchDeviceError as error:
            await self._grpc.stop(None)
            self._remove_socket()
            raise SettingsError(f"device: {error}") from None
        self.pool.start(
            devices, num_per_device=self._settings.workers, threads=self._settings.threads
        )
        self._spawn(self.registry.expire())

    async def stop(self, drain_timeout_seconds: float) -> None:
        """Refuses new calls, lets those in flight finish, and ends.

        Args:
            drain_timeout_seconds: How long calls in flight may take.
        """
        await self._health.enter_graceful_shutdown()
        self.registry.placement.close(self.traffic.close(shutting_down()))
        log.info("stopping", calls_in_flight=self.traffic.num_calls)
        try:
            async with asyncio.timeout(drain_timeout_seconds):
                await self.traffic.idle()
        except TimeoutError:
            log.warning("calls cut off", calls_in_flight=self.traffic.num_calls)
            self.registry.end_all(cut_off())
            self.pool.kill()
        await self._grpc.stop(LAST_WORDS_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pool.stop(WORKER_STOP_SECONDS)
        self._remove_socket()
        self.stopped = True
        log.info("stopped")

    def abandon(self) -> NoReturn:
        """Ends this process and its workers at once."""
        self.pool.kill()
        self._remove_socket()
        os._exit(ABANDONED_STATUS)

    def _make_grpc_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[AccessInterceptor(self._tokens)],
            options=server_options(self._settings.max_message_bytes),
        )
        front = FrontRpcs(self.registry, self.pool)
        datasets = DatasetRpcs(self.storage, self._settings.limits, self.registry.quotas)
        handlers = Handlers(self.registry, front, datasets, self.traffic, self._tokens)
        server.add_generic_rpc_handlers(handlers.generic_handlers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.full_name for service in SERVICES]
        reflection.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
        return server

    def _clean_storage(self) -> None:
        try:
            self.storage.clean()
        except GradwireError as error:
            # Commands that need no storage work all the same; the others say what is wrong.
            log.warning("storage not cleaned", error=error.message)

    def _bind(self) -> None:
        try:
            if self.address.path is not None:
                remove_stale_socket(self.address.path)
            # Nobody but this user may open a unix socket of ours.
            mask = os.umask(0o177)
            try:
                if self._credentials is None:
                    port = self._grpc.add_insecure_port(str(self.address))
                else:
                    port = self._grpc.add_secure_port(str(self.address), self._credentials)
            finally:
                os.umask(mask)
        except (OSError, RuntimeError) as error:
            raise SettingsError(f"address: cannot listen on {self.address}: {error}") from None
        self.address = self.address.with_port(port)

    def _remove_socket(self) -> None:
        if self.address.path is not None:
            self.address.path.unlink(missing_ok=True)
            if self._owns_folder:
                with suppress(OSError):  # it holds something else, or is gone
                    self.address.path.parent.rmdir()

    def _tell_health(self) -> None:
        self._spawn(self._set_health(serving=bool(self.pool.ready)))

    async def _set_health(self, *, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, status)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


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


def _make_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    try:
        return None if settings.tls is None else server_credentials(settings.tls)
    except TlsFileError as error:
        raise SettingsError(f"TLS: {error}") from None


async def serve(settings: Settings, *, parent_pid: int | None = None) -> None:
    """Runs a server until it is told to stop.

    Args:
        settings: All settings.
        parent_pid: If given, the server ends when that process, its parent, has ended.

    Raises:
        SettingsError: See `Server.start`.
    """
    lifetime = Lifetime()
    lifetime.watch_signals()
    # A parent makes a folder for the socket, and can't remove it if it is killed.
    server = Server(settings, owns_folder=parent_pid is not None)
    await server.start()
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
