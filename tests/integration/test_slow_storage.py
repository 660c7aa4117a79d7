"""A storage that takes its time holds up whoever writes to it, and nobody else on the worker."""

import threading
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import gradwire
from tests.processes import ServerProcess

TIMEOUT_SECONDS = 60.0


class Gate:
    """An S3 server whose checkpoints are written only while it is open.

    Attributes:
        reached: Set once something waits before it.
        closes_after: It closes once an object whose name ends so was written.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()
        self.closes_after = "/no/such/object"
        self._server = make_server("127.0.0.1", 0, self._pass, threaded=True)
        self.endpoint = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()

    def stop(self) -> None:
        self.open()
        self._server.shutdown()

    def _pass(self, environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and "/checkpoints/" in environ["PATH_INFO"]:
            if not self._open.is_set():
                self.reached.set()
            self._open.wait(TIMEOUT_SECONDS)
            if environ["PATH_INFO"].endswith(self.closes_after):
                self.close()
        answer: Iterable[bytes] = self._app(environ, respond)
        return answer


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    request = urllib.request.Request(f"{gate.endpoint}/bucket", method="PUT")
    urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
    yield gate
    gate.stop()


def test_checkpoints_are_written_while_the_worker_goes_on(tmp_path: Path, gate: Gate) -> None:
    numbers = np.random.default_rng(0)
    inputs = numbers.standard_normal((64, 4), dtype=np.float32)
    data = inputs, inputs.sum(1, keepdims=True)
    with (
        ServerProcess(tmp_path, storage="s3://bucket/gradwire", threads=1) as server,
        gradwire.connect(server.address) as session,
    ):
        model = gradwire.nn.Linear(4, 1)
        gate.closes_after = "/00000000.json"
        run = gradwire.train(
            model,
            data,
            loss=gradwire.nn.MSELoss(),
            optimizer=gradwire.optim.Adam(model.parameters()),
            steps=400,
            batch_size=8,
            checkpoint={"every_steps": 300},
            wait=False,
        )
        # The run takes steps while its checkpoint is written, and so does another session.
        assert gate.reached.wait(TIMEOUT_SECONDS)
        next(event for event in run.events() if event.progress.step > 300)
        with gradwire.connect(server.address):
            assert gradwire.ones(3).sum().item() == 3
        gate.open()
        run.wait()
        assert [int(name.rpartition("-")[2]) for name in run.checkpoints] == [300, 400]
        trained = model.weight.detach().numpy()

        gate.close()
        kept: list[Any] = []
        keeper = threading.Thread(target=lambda: kept.append(session.checkpoint(model=model)))
        keeper.start()
        assert gate.reached.wait(TIMEOUT_SECONDS)
        with gradwire.connect(server.address):
            assert gradwire.ones(3).sum().item() == 3
        gate.open()
        keeper.join(TIMEOUT_SECONDS)
        for checkpoint in (run.checkpoints[-1], *kept):
            with gradwire.restore(checkpoint) as restored:
                assert np.array_equal(restored.objects["model"].weight.detach().numpy(), trained)
        assert kept
