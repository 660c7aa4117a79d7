"""What it costs to watch a server: processor time of its processes a step, watched and unwatched.

Run with `python -m gradwire_benchmarks.observing [--quick]`. Servers that differ only in how they
are watched take turns with the same work. Processor time is compared, not time: other programs on
the machine change it little.
"""

import argparse
import statistics
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

import gradwire
from gradwire.current import push_session
from gradwire.session import Session
from gradwire_benchmarks.measuring import Contender
from gradwire_benchmarks.nets import NETS
from gradwire_benchmarks.remote import SdkLoop, UnaryVerbs
from gradwire_benchmarks.server import BenchServer, forget_servers, free_address

SCRAPE_SECONDS = 1.0
"""Prometheus asks fifteen times as seldom."""


class _Sink(grpc.GenericRpcHandler):
    """Takes whatever is exported."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(lambda _, __: b"")


@contextmanager
def receiving() -> Iterator[str]:
    """Yields the URL of an OTLP receiver that throws away what it gets."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=[_Sink()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(None)


@contextmanager
def scraping(path: str) -> Iterator[None]:
    """Scrapes metrics again and again, as Prometheus does."""
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(SCRAPE_SECONDS):
            with urllib.request.urlopen(path, timeout=60) as response:  # noqa: S310  # ours
                response.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    yield
    done.set()
    thread.join()


def main() -> None:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m gradwire_benchmarks.observing", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    quick = parser.parse_args().quick
    forget_servers()
    num_rounds, num_steps = (1, 100) if quick else (9, 700)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        metrics, traced = free_address(), free_address()
        receiver = stack.enter_context(receiving())
        settings: dict[str, dict[str, object]] = {
            "nobody": {},
            "metrics": {"metrics_address": metrics},
            "all there is": {
                "metrics_address": traced,
                "audit_log_file": folder / "audit",
                "otlp_endpoint": receiver,
            },
        }
        works: dict[str, list[tuple[Session, Contender]]] = {}
        servers = {
            how: stack.enter_context(BenchServer(compile_steps=False, **its_settings))
            for how, its_settings in settings.items()
        }
        for how, server in servers.items():
            session = stack.enter_context(gradwire.connect(server.address, timeout_seconds=60))
            works[how] = [
                (session, SdkLoop(NETS[0], read_every=1)),
                (session, UnaryVerbs(session.channel, NETS[0])),
            ]
        for address in (metrics, traced):
            stack.enter_context(scraping(f"http://{address}/metrics"))
        rounds = [
            _round(servers, works, num_steps, backwards=bool(number % 2))
            for number in range(num_rounds + 1)
        ]
        _print(rounds[1:] or rounds)


_WORK = ("SDK loop", "five unary verbs")


def _round(
    servers: Mapping[str, BenchServer],
    works: Mapping[str, list[tuple[Session, Contender]]],
    num_steps: int,
    *,
    backwards: bool,
) -> dict[str, list[float]]:
    """Returns the seconds of processor time a step, for each server and work."""
    seconds: dict[str, list[float]] = {how: [] for how in servers}
    for how in reversed(list(servers)) if backwards else servers:
        for session, contender in works[how]:
            push_session(session)
            before = servers[how].cpu_seconds()
            contender.burst(num_steps)
            seconds[how].append((servers[how].cpu_seconds() - before) / num_steps)
    return seconds


def _print(rounds: list[dict[str, list[float]]]) -> None:
    table = Table(header_style="bold")
    for heading in ("watched by", "work", "CPU ms a step", "x unwatched", "quartiles"):
        table.add_column(heading)
    for how in rounds[0]:
        for index, work in enumerate(_WORK):
            own = [each[how][index] for each in rounds]
            plain = [each["nobody"][index] for each in rounds]
            ratios = [mine / its for mine, its in zip(own, plain, strict=True)]
            low, middle, high = statistics.quantiles(ratios * 2, n=4)
            table.add_row(
                how,
                work,
                f"{1000 * statistics.median(own):.3f}",
                f"{middle:.2f}",
                f"{low:.2f} to {high:.2f}",
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
