"""Quotas of a real server: what is too much is refused, with the limit's name and when to retry."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

import gradwire
from gradwire import datasets
from gradwire.current import push_session
from gradwire.errors import LimitError
from gradwire.session import Session
from gradwire.transport.channel import open_channel
from gradwire.v1 import (
    checkpoints_pb2,
    datasets_pb2,
    models_pb2,
    runs_pb2,
    server_pb2,
    sessions_pb2,
    values_pb2,
)
from gradwire_server.access.identity import Role
from gradwire_server.access.tokens import TokenEntry, append_token, new_token
from tests.processes import ServerProcess, Stubs

KIBIBYTE = 1024
DEADLINE_SECONDS = 60.0


@contextmanager
def serving(folder: Path, **limits: Any) -> Iterator[tuple[ServerProcess, dict[str, str]]]:
    """Runs a server with one token for each of two tenants."""
    path = folder / "tokens"
    tokens = {tenant: new_token() for tenant in ("acme", "other")}
    for tenant, token in tokens.items():
        append_token(path, TokenEntry.of(token, tenant, Role.USER, None))
    with ServerProcess(folder, tokens_file=path, **limits) as server:
        yield server, tokens


def details(error: grpc.RpcError) -> tuple[str, bool]:
    """Returns the limit that an error names, and whether it says when to try again."""
    trailers: dict[str, Any] = dict(error.trailing_metadata())  # type: ignore[arg-type]
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    told = any(detail.Unpack(retry) for detail in status.details)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info.reason == "LIMIT_EXCEEDED"
    return info.metadata["limit"], told and retry.retry_delay.ToNanoseconds() > 0


def test_sessions_are_counted_for_each_tenant_and_in_all(tmp_path: Path) -> None:
    own = json.dumps({"other": {"max_sessions": 3}})
    limits = {"max_tenant_sessions": 2, "max_sessions": 4, "tenants": own}
    with serving(tmp_path, **limits) as (server, tokens), ExitStack() as sessions:

        def connect(tenant: str) -> None:
            sessions.enter_context(gradwire.connect(server.address, token=tokens[tenant]))

        def refused(tenant: str) -> tuple[str, bool]:
            with open_channel(server.address) as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    Stubs(channel).sessions.CreateSession(
                        sessions_pb2.CreateSessionRequest(),
                        metadata=(("authorization", f"Bearer {tokens[tenant]}"),),
                        timeout=20,
                    )
                return details(caught.value)

        connect("acme")
        connect("acme")
        assert refused("acme") == ("max_tenant_sessions", True)
        connect("other")
        connect("other")
        assert refused("other") == ("max_sessions", True)
        gradwire.current_session().close()
        connect("other")


def test_bytes_are_counted_over_the_sessions_of_a_tenant(tmp_path: Path) -> None:
    with (
        serving(tmp_path, max_tenant_bytes=1000 * KIBIBYTE) as (server, tokens),
        gradwire.connect(server.address, token=tokens["acme"]) as first,
        gradwire.connect(server.address, token=tokens["acme"]) as second,
    ):
        held = gradwire.zeros(150, KIBIBYTE)  # 600 KiB
        second.flush()
        first.call(
            Stubs(first.channel).models.CreateModel,
            models_pb2.CreateModelRequest(
                name=first.name,
                module=linear(KIBIBYTE, 50),  # 200 KiB and a bias
            ),
        )
        with pytest.raises(LimitError, match=r"max_tenant_bytes is 1024000") as caught:
            first.call(
                Stubs(first.channel).models.CreateModel,
                models_pb2.CreateModelRequest(name=first.name, module=linear(KIBIBYTE, 150)),
            )
        assert caught.value.metadata["limit"] == "max_tenant_bytes"
        with gradwire.connect(server.address, token=tokens["other"]):
            assert gradwire.zeros(150, KIBIBYTE).sum().item() == 0.0
        assert held.sum().item() == 0.0
        del held
        # What is released goes with the next program, and is free when that has run.
        assert gradwire.zeros(1).item() == 0.0
        assert gradwire.zeros(150, KIBIBYTE).sum().item() == 0.0


def test_bytes_are_counted_over_the_workers(tmp_path: Path) -> None:
    with serving(tmp_path, max_tenant_bytes=1000 * KIBIBYTE, workers=2) as (server, tokens):
        sessions: dict[str, Session] = {}
        with ExitStack() as stack:
            # Sessions go to the least loaded of the workers that are ready, so both have one soon.
            while len(sessions) < 2:
                session = gradwire.connect(server.address, token=tokens["acme"])
                stack.enter_context(session)
                stubs = Stubs(session.channel).sessions
                found = session.call(
                    stubs.GetSession, sessions_pb2.GetSessionRequest(name=session.name)
                )
                sessions.setdefault(found.session.worker, session)
            first, second = sessions.values()
            push_session(first)
            held = gradwire.zeros(150, KIBIBYTE)
            first.flush()
            push_session(second)
            deadline = time.monotonic() + DEADLINE_SECONDS
            with pytest.raises(LimitError, match="max_tenant_bytes"):
                hold_until_refused(deadline)
            assert held.sum().item() == 0.0


def hold_until_refused(deadline: float) -> None:
    """Holds what is too much, until the worker has heard of what is held on the other."""
    while time.monotonic() < deadline:
        refused = gradwire.zeros(150, KIBIBYTE)
        assert refused.sum().item() == 0.0


def linear(num_inputs: int, num_outputs: int) -> models_pb2.ModuleSpec:
    args = [values_pb2.Value(int_value=size) for size in (num_inputs, num_outputs)]
    return models_pb2.ModuleSpec(type="torch.nn.Linear", args=args)


def test_bytes_are_counted_in_all(tmp_path: Path) -> None:
    with (
        serving(tmp_path, max_bytes=1000 * KIBIBYTE) as (server, tokens),
        gradwire.connect(server.address, token=tokens["acme"]) as first,
    ):
        held = gradwire.zeros(150, KIBIBYTE)
        first.flush()
        with gradwire.connect(server.address, token=tokens["other"]):
            refused = gradwire.zeros(150, KIBIBYTE)
            with pytest.raises(LimitError, match="max_bytes is 1024000"):
                refused.sum().item()
        assert held.sum().item() == 0.0


def test_requests_that_come_too_fast_are_refused_and_messages_of_a_stream_wait(
    tmp_path: Path,
) -> None:
    with (
        serving(tmp_path, max_tenant_requests_per_second=20) as (server, tokens),
        gradwire.connect(server.address, token=tokens["acme"]) as session,
    ):
        metadata = (("authorization", f"Bearer {tokens['acme']}"),)
        stub = Stubs(session.channel).server

        def ask_often() -> None:
            for _ in range(1000):
                stub.GetServerInfo(server_pb2.GetServerInfoRequest(), metadata=metadata, timeout=20)

        with pytest.raises(grpc.RpcError) as caught:
            ask_often()
        assert details(caught.value) == ("max_tenant_requests_per_second", True)
        # The stream of the SDK goes on, as fast as it may.
        x = gradwire.zeros(1)
        for _ in range(30):
            x = x + 1
            session.flush()
        assert x.item() == 30.0
        other = (("authorization", f"Bearer {tokens['other']}"),)
        stub.GetServerInfo(server_pb2.GetServerInfoRequest(), metadata=other, timeout=20)


def test_runs_in_progress_are_counted(tmp_path: Path) -> None:
    with (
        serving(tmp_path, max_tenant_runs=1) as (server, tokens),
        gradwire.connect(server.address, token=tokens["acme"]) as session,
    ):
        metadata = (("authorization", f"Bearer {tokens['acme']}"),)
        stubs = Stubs(session.channel)
        name = session.call(
            stubs.models.CreateModel,
            models_pb2.CreateModelRequest(
                name=session.name,
                module=linear(2, 1),
                optimizer=models_pb2.OptimizerSpec(type="torch.optim.SGD"),
            ),
        ).model.name
        data = values_pb2.Value(
            tensor=values_pb2.Tensor(
                dtype=values_pb2.DATA_TYPE_FLOAT32, shape=[4, 2], data=bytes(32)
            )
        )
        request = runs_pb2.TrainRequest(
            name=name,
            inputs=[data],
            targets=[data],
            loss=models_pb2.LossSpec(catalog=models_pb2.CatalogLoss(type="torch.nn.MSELoss")),
            epochs=1_000_000,
        )
        first = stubs.runs.Train(request, metadata=metadata)
        next(first)
        second = stubs.runs.Train(request, metadata=metadata)
        with pytest.raises(grpc.RpcError) as caught:
            next(second)
        assert details(caught.value) == ("max_tenant_runs", True)
        first.cancel()


def test_a_tenant_learns_its_own_limits_and_the_sdk_keeps_to_them(tmp_path: Path) -> None:
    own = json.dumps({"acme": {"max_message_bytes": 50_000}})
    with serving(tmp_path, tenants=own, max_message_bytes=100_000) as (server, tokens):
        for tenant, expected, setting in (
            ("acme", 50_000, "max_tenant_message_bytes"),
            ("other", 100_000, "max_message_bytes"),
        ):
            with gradwire.connect(server.address, token=tokens[tenant]) as session:
                stubs = Stubs(session.channel)
                info = session.call(stubs.server.GetServerInfo, server_pb2.GetServerInfoRequest())
                assert info.limits.max_message_bytes == expected
                with pytest.raises(grpc.RpcError) as refused:
                    stubs.sessions.CreateSession(
                        sessions_pb2.CreateSessionRequest(display_name="x" * (expected + 1)),
                        metadata=(("authorization", f"Bearer {tokens[tenant]}"),),
                        timeout=20,
                    )
                assert details(refused.value) == (setting, True)
        with (
            gradwire.connect(server.address, token=tokens["acme"]),
            pytest.raises(LimitError, match="max_message_bytes is 50000"),
        ):
            gradwire.arange(3)[[0] * 30_000].sum().item()


def test_bytes_of_checkpoints_are_counted_for_each_tenant_and_in_all(tmp_path: Path) -> None:
    own = json.dumps({"other": {"max_total_checkpoint_bytes": 1000 * KIBIBYTE}})
    limits = {
        "max_tenant_total_checkpoint_bytes": 700 * KIBIBYTE,
        "max_total_checkpoint_bytes": 1300 * KIBIBYTE,
    }
    with serving(tmp_path, tenants=own, **limits) as (server, tokens), ExitStack() as stack:
        stubs: dict[str, Any] = {}

        def hold(tenant: str) -> Session:
            session: Session = gradwire.connect(server.address, token=tokens[tenant])
            stack.enter_context(session)
            held[tenant] = gradwire.ones(150, KIBIBYTE)  # 600 KiB
            assert held[tenant].sum().item() == 150 * KIBIBYTE
            stubs[tenant] = Stubs(session.channel).checkpoints
            return session

        def write(tenant: str) -> str:
            response = stubs[tenant].CreateCheckpoint(
                checkpoints_pb2.CreateCheckpointRequest(name=sessions[tenant].name),
                metadata=(("authorization", f"Bearer {tokens[tenant]}"),),
                timeout=20,
            )
            return str(response.checkpoint.name)

        def refused(tenant: str) -> tuple[str, bool]:
            with pytest.raises(grpc.RpcError) as caught:
                write(tenant)
            return details(caught.value)

        held: dict[str, gradwire.Tensor] = {}
        sessions = {tenant: hold(tenant) for tenant in ("acme", "other")}
        first = write("acme")
        # What the two share is stored and counted once.
        write("acme")
        push_session(sessions["acme"])
        held["acme"].add_(1)
        assert held["acme"].sum().item() == 300 * KIBIBYTE
        before = stored_bytes(tmp_path)
        assert refused("acme") == ("max_tenant_total_checkpoint_bytes", True)
        with pytest.raises(LimitError, match="max_tenant_total_checkpoint_bytes is 716800"):
            train()
        assert stored_bytes(tmp_path) == before

        write("other")
        push_session(sessions["other"])
        held["other"].add_(1)
        assert held["other"].sum().item() == 300 * KIBIBYTE
        assert refused("other") == ("max_total_checkpoint_bytes", True)

        delete = checkpoints_pb2.DeleteCheckpointRequest
        metadata = (("authorization", f"Bearer {tokens['acme']}"),)
        listed = stubs["acme"].ListCheckpoints(
            checkpoints_pb2.ListCheckpointsRequest(), metadata=metadata
        )
        assert first in [each.name for each in listed.checkpoints]
        for each in listed.checkpoints:
            stubs["acme"].DeleteCheckpoint(delete(name=each.name), metadata=metadata)
        write("acme")


def train() -> None:
    """Trains by a run, which writes a checkpoint before its first step."""
    model = gradwire.nn.Linear(2, 1)
    gradwire.train(
        model,
        (gradwire.ones(4, 2), gradwire.ones(4, 1)),
        loss=gradwire.nn.MSELoss(),
        optimizer=gradwire.optim.SGD(model.parameters(), lr=0.1),
        epochs=1,
    )


def stored_bytes(folder: Path) -> int:
    """Returns how many bytes the checkpoints in a server's storage take."""
    files = (folder / "storage" / "checkpoints").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def test_a_tenant_that_floods_does_not_slow_another_below_its_share(tmp_path: Path) -> None:
    num_steps, num_flooding = 40, 4
    with serving(tmp_path) as (server, tokens), ExitStack() as stack:
        flooding = [
            stack.enter_context(gradwire.connect(server.address, token=tokens["acme"]))
            for _ in range(num_flooding)
        ]
        modest = stack.enter_context(gradwire.connect(server.address, token=tokens["other"]))

        def queue_work(session: Any) -> Any:
            """Queues many commands of a few milliseconds each; returns the last result."""
            push_session(session)
            x = gradwire.ones(300, 300)
            for _ in range(num_steps):
                x = (x @ x) / x.norm()
                session.flush()
            return x.sum()

        floods = [queue_work(session) for session in flooding]
        result = queue_work(modest)
        assert result.item() > 0
        done = [len(session._stream._answers) for session in flooding]
        # The flood of four sessions was queued first. With turns by session it would be through.
        assert sum(done) < num_flooding * num_steps * 3 / 4
        assert all(flood.item() > 0 for flood in floods)


def test_bytes_of_datasets_are_counted_for_each_tenant_and_in_all(tmp_path: Path) -> None:
    data = {"x": np.zeros(100)}
    own = json.dumps({"other": {"max_total_dataset_bytes": 5000}})
    limits = {"max_tenant_total_dataset_bytes": 1800, "max_total_dataset_bytes": 4000}
    with serving(tmp_path, tenants=own, **limits) as (server, tokens):
        with gradwire.connect(server.address, token=tokens["acme"]):
            datasets.upload("first", data)
            datasets.upload("same", data)
            with pytest.raises(LimitError, match="max_tenant_total_dataset_bytes"):
                datasets.upload("second", {"y": np.zeros(100)})
            announced = datasets_pb2.CreateDatasetRequest(
                dataset_id="third",
                dataset=datasets_pb2.Dataset(
                    columns=[datasets_pb2.Column(name="z", dtype=values_pb2.DATA_TYPE_FLOAT64)],
                    num_samples=1000,
                    content_sha256=bytes(32),
                ),
            )
            with open_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
                Stubs(channel).datasets.CreateDataset(
                    announced,
                    metadata=(("authorization", f"Bearer {tokens['acme']}"),),
                    timeout=20,
                )
            assert details(caught.value) == ("max_total_dataset_bytes", True)
            datasets.delete("same")
        with gradwire.connect(server.address, token=tokens["other"]):
            # Another tenant's data is neither seen nor shared.
            assert datasets.list() == []
            datasets.upload("first", data)
            with pytest.raises(LimitError, match="max_total_dataset_bytes"):
                datasets.upload("second", {"y": np.zeros(300)})
        with gradwire.connect(server.address, token=tokens["acme"]):
            assert [dataset.name for dataset in datasets.list()] == ["first"]
