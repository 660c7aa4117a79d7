"""``gradwire top`` and health while draining, on a real server."""

import subprocess
import sys
import threading
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gradwire
from gradwire import nn, optim
from gradwire.transport.channel import open_channel
from gradwire.v1 import sessions_pb2
from gradwire_server.commands.top import Rates
from gradwire_server.transport.routes import SERVICES
from tests.processes import ServerProcess


def test_it_shows_what_sessions_hold_and_do(address: str) -> None:
    with gradwire.connect(address) as session:
        model = nn.Linear(250, 1000)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(gradwire.ones(1, 250)).sum().backward()
            optimizer.step()
        session.flush()
        assert model.bias.sum().isfinite().item()
        result = subprocess.run(
            [
                *(sys.executable, "-m", "gradwire_server", "top", "--address", address),
                *("--times", "2", "--interval", "0.1"),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        rows = [line for line in result.stdout.splitlines() if session.name in line]
        assert len(rows) == 2
        cells = [cell.strip() for cell in rows[1].strip("│").split("│")]
    assert cells[1:3] == ["default", "worker-0"]
    # A million and four bytes of weights, as many of gradients.
    assert cells[3] in {"2.0 MB", "2.1 MB"}
    assert cells[4:] == ["3", "0.0", "0"]


def test_rates_are_steps_over_time_from_one_look_to_the_next() -> None:
    def at(**steps: int) -> list[sessions_pb2.Session]:
        return [
            sessions_pb2.Session(name=name, activity=sessions_pb2.SessionActivity(num_steps=number))
            for name, number in steps.items()
        ]

    rates = Rates()
    assert rates.update(at(a=10), 1.0) == {"a": None}
    assert rates.update(at(a=30, b=5), 5.0) == {"a": 5.0, "b": None}
    assert rates.update(at(b=5), 6.0) == {"b": 0.0}


def test_each_service_is_unhealthy_first_thing_when_the_server_drains(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        gradwire.connect(server.address).close()
        seen: dict[str, list[int]] = {}
        with open_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = ["", *(service.full_name for service in SERVICES)]

            def watch(name: str) -> None:
                statuses = seen.setdefault(name, [])
                try:
                    for response in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
                        statuses.append(response.status)
                        ready.release()
                except grpc.RpcError:
                    return

            ready = threading.Semaphore(0)
            threads = [threading.Thread(target=watch, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            for _ in names:
                assert ready.acquire(timeout=30)
            assert server.stop() == 0
            for thread in threads:
                thread.join(30)
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    assert seen == {name: [serving, not_serving] for name in names}
