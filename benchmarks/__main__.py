"""Runs the benchmarks: `python -m benchmarks [--quick]`."""

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from tqdm import tqdm

import gradwire
from benchmarks.compiled import Compiled, Metrics
from benchmarks.echo import Echo, echo_server
from benchmarks.lines import LINES, ONE_HOST, OVER_TCP, SMALL_BYTES, TRIPS, evaluate
from benchmarks.local import LocalLoop, LocalTorch
from benchmarks.machine import describe
from benchmarks.measuring import Contender, Sample, measure
from benchmarks.nets import NETS, Net
from benchmarks.remote import SdkLoop, TrainCall, UnaryVerbs
from benchmarks.table import print_table, write_json
from benchmarks.transfers import (
    BytesTrip,
    StreamTrip,
    TensorTrip,
    free_address,
    tcp_session,
)
from gradwire.current import push_session, remove_session
from gradwire.embedded import EmbeddedServer
from gradwire.session import Session
from gradwire.v1 import server_pb2, server_pb2_grpc


def parse_arguments() -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--rounds", type=int, default=7, help="rounds per net (7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="time per turn (0.5)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks.json"))
    parser.add_argument(
        "--net",
        dest="nets",
        action="append",
        choices=[net.name for net in NETS],
        help="only this net; may be given more than once",
    )
    arguments = parser.parse_args()
    arguments.nets = [net for net in NETS if net.name in (arguments.nets or [net.name])]
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.0
    return arguments


def measure_net(
    net: Net,
    *,
    channel: grpc.Channel,
    fast: Session,
    metrics: Metrics | None,
    echo_channel: grpc.Channel,
    torch: LocalTorch,
    num_rounds: int,
    burst_seconds: float,
) -> list[Sample]:
    """Returns the samples of all rounds with one net.

    Args:
        net: The net.
        channel: To the server.
        fast: A session that need not be exact.
        metrics: Those of the server; None if nobody is to wait until steps are compiled.
        echo_channel: To the bare server.
        torch: The process with local torch.
        num_rounds: How many rounds.
        burst_seconds: About how long each contender runs in a round.
    """
    unary = UnaryVerbs(channel, net)
    with using(fast):
        fast_loop: Contender = SdkLoop(net, read_every=100, exact=False)
    fast_train: Contender = TrainCall(net, exact=False)
    if metrics is not None:
        fast_loop, fast_train = Compiled(fast_loop, metrics), Compiled(fast_train, metrics)
    contenders: list[Contender] = [
        LocalLoop(torch, net),
        SdkLoop(net, read_every=100),
        fast_loop,
        TrainCall(net, exact=True),
        fast_train,
        SdkLoop(net, read_every=1),
        unary,
        Echo(echo_channel, {**unary.sizes, "small": (SMALL_BYTES, SMALL_BYTES)}),
    ]
    rounds = measure(contenders, num_rounds=num_rounds, burst_seconds=burst_seconds)
    unary.close()
    return rounds


def measure_trips(
    session: Session, echo_channel: grpc.Channel, *, num_rounds: int, burst_seconds: float
) -> dict[str, list[Sample]]:
    """Returns the samples of all rounds of large tensors, by where the server is."""
    address = free_address()
    with tcp_session() as over_tcp, echo_server(address) as tcp_echo_channel:
        contenders: dict[str, list[Contender]] = {
            ONE_HOST: [
                TensorTrip(session, "trip shared"),
                BytesTrip(echo_channel, "trip bytes"),
            ],
            OVER_TCP: [
                TensorTrip(over_tcp, "trip sent"),
                StreamTrip(tcp_echo_channel, "trip stream"),
            ],
        }
        return {
            where: measure(
                contenders[where],
                num_rounds=num_rounds,
                burst_seconds=burst_seconds,
                least_steps=2,
            )
            for where in tqdm(TRIPS, desc="measuring")
        }


@contextmanager
def using(session: Session) -> Iterator[None]:
    """Lets operations in the block go to a session."""
    push_session(session)
    try:
        yield
    finally:
        remove_session(session)


def main() -> None:
    """Measures all nets, prints the table, writes the file."""
    arguments = parse_arguments()
    metrics_address = free_address()
    # What an embedded server inherits. A look does not wait for a compiler, nor is it to have one
    # beside it.
    inherited = {
        "GRADWIRE_METRICS_ADDRESS": metrics_address,
        "GRADWIRE_COMPILE_STEPS": str(not arguments.quick),
    }
    os.environ |= inherited
    server = EmbeddedServer()
    for name in inherited:
        del os.environ[name]
    rounds: dict[str, list[Sample]] = {}
    with (
        gradwire.connect(server.address, exact=False) as fast,
        gradwire.connect(server.address) as session,
        tempfile.TemporaryDirectory() as folder,
        echo_server(f"unix:{folder}/echo.sock") as echo_channel,
    ):
        info = server_pb2_grpc.ServerServiceStub(session.channel).GetServerInfo(
            server_pb2.GetServerInfoRequest()
        )
        with LocalTorch(info.workers[0].num_threads) as torch:
            for net in tqdm(arguments.nets, unit="net", desc="measuring"):
                rounds[net.name] = measure_net(
                    net,
                    channel=session.channel,
                    fast=fast,
                    metrics=None if arguments.quick else Metrics(metrics_address),
                    echo_channel=echo_channel,
                    torch=torch,
                    num_rounds=arguments.rounds,
                    burst_seconds=arguments.seconds,
                )
        push_session(session)
        rounds |= measure_trips(
            session,
            echo_channel,
            num_rounds=arguments.rounds,
            burst_seconds=arguments.seconds,
        )
    results = [
        evaluate(line, net.name, rounds[net.name]) for net in arguments.nets for line in LINES
    ]
    results += [evaluate(line, at, rounds[at]) for at, lines in TRIPS.items() for line in lines]
    machine = describe(info)
    print_table(results, machine)
    write_json(arguments.output, results=results, rounds=rounds, machine=machine)
    print(f"Written to {arguments.output}.")


if __name__ == "__main__":
    main()
