"""Training on a gradwire server: the SDK's loop, Train, and the verbs as plain unary calls."""

import re
import statistics
import time
from itertools import pairwise
from typing import Any

import grpc
from google.protobuf.message import Message

import gradwire
import gradwire.datasets
from gradwire.recorder.values import tensor_message
from gradwire.v1 import (
    models_pb2,
    models_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    values_pb2,
)
from gradwire_benchmarks.loop import BATCHES_PER_EPOCH, VERBS, Loop
from gradwire_benchmarks.measuring import Sample
from gradwire_benchmarks.nets import Net


class SdkLoop:
    """The ordinary loop through the SDK.

    Args:
        net: The net.
        read_every: After how many steps the loss is read.
        exact: Whether the session that is current now is exact.
    """

    def __init__(self, net: Net, read_every: int, *, exact: bool = True) -> None:
        self._loop = Loop(gradwire, net)
        self._read_every = read_every
        self._name = "sdk loop" if exact else "fast sdk loop"

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the seconds of a step."""
        seconds = self._loop.run(num_steps, self._read_every)
        return {f"{self._name}/{self._read_every}": seconds}


class TrainCall:
    """The loop on the server over an uploaded dataset, the start of the run included.

    Args:
        net: The net.
        exact: Whether it is to be exact.
    """

    def __init__(self, net: Net, *, exact: bool) -> None:
        inputs, targets = net.samples(BATCHES_PER_EPOCH)
        self._model, self._criterion, self._optimizer = net.build(gradwire)
        name = "benchmark-" + re.sub("[^a-z0-9]+", "-", net.name.lower())
        self._data = gradwire.datasets.upload(name, {"inputs": inputs, "targets": targets})
        self._batch_size = net.batch_size
        self._exact = exact

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the seconds of a step."""
        began = time.perf_counter()
        result = gradwire.train(
            self._model,
            self._data,
            loss=self._criterion,
            optimizer=self._optimizer,
            epochs=max(num_steps // BATCHES_PER_EPOCH, 1),
            batch_size=self._batch_size,
            shuffle=True,
            exact=self._exact,
            progress=False,
        )
        name = "train" if self._exact else "fast train"
        return {name: (time.perf_counter() - began) / result.num_steps}


class UnaryVerbs:
    """Each step as five unary calls from generated stubs, with the batch in each Forward.

    Attributes:
        sizes: How many bytes request and response of each verb have.
    """

    def __init__(self, channel: grpc.Channel, net: Net) -> None:
        self._stub: Any = models_pb2_grpc.ModelServiceStub(channel)
        self._sessions: Any = sessions_pb2_grpc.SessionServiceStub(channel)
        self._model: str = self._stub.CreateModel(net.create_request()).model.name
        self._session = self._model.partition("/models/")[0]
        self._loss = net.loss_spec()
        self._inputs, self._targets = [
            values_pb2.Value(tensor=tensor_message(array)) for array in net.samples(1)
        ]
        self._messages: list[tuple[Message, Message]] = []
        self._step()
        self.sizes = {
            verb: (request.ByteSize(), response.ByteSize())
            for verb, (request, response) in zip(VERBS, self._messages, strict=True)
        }

    def burst(self, num_steps: int) -> Sample:
        """Trains; returns the median seconds of a step and of each verb."""
        handles: list[int] = []
        times = []
        for _ in range(num_steps):
            times.append(self._step())
            handles += self._handles()
        self._sessions.ReleaseValues(
            sessions_pb2.ReleaseValuesRequest(name=self._session, handles=handles)
        )
        medians = {
            f"unary {verb}": statistics.median(step[index] for step in times)
            for index, verb in enumerate(VERBS)
        }
        return {"unary step": statistics.median(map(sum, times)), **medians}

    def close(self) -> None:
        """Ends the session."""
        self._sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=self._session))

    def _step(self) -> list[float]:
        """Takes a step; returns the seconds of each verb, making its request included."""
        self._messages = []
        clock = time.perf_counter
        marks = [clock()]
        for verb in VERBS:
            request = self._request(verb)
            response = getattr(self._stub, verb)(request)
            marks.append(clock())
            self._messages.append((request, response))
        return [end - begin for begin, end in pairwise(marks)]

    def _request(self, verb: str) -> Message:
        match verb:
            case "Forward":
                return models_pb2.ForwardRequest(name=self._model, inputs=[self._inputs])
            case "ComputeLoss":
                output = values_pb2.Value(handle=self._handle(0, "output"))
                return models_pb2.ComputeLossRequest(
                    name=self._session, loss=self._loss, outputs=[output], targets=[self._targets]
                )
            case "ZeroGrad":
                return models_pb2.ZeroGradRequest(name=self._model)
            case "Backward":
                return models_pb2.BackwardRequest(
                    name=self._session, handle=self._handle(1, "loss")
                )
            case _:
                return models_pb2.StepRequest(name=self._model)

    def _handle(self, index: int, field: str) -> int:
        handle: int = getattr(self._messages[index][1], field).handle
        return handle

    def _handles(self) -> list[int]:
        return [self._handle(0, "output"), self._handle(1, "loss")]
