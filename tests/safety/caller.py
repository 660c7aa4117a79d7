"""A caller that speaks the contract by hand, as any program may, and minds no manners."""

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from gradwire.v1 import models_pb2, sessions_pb2, values_pb2
from tests.processes import Stubs

Value = values_pb2.Value
TIMEOUT_SECONDS = 60.0


class RefusedError(Exception):
    """The server answered with an error of its catalog.

    Attributes:
        code: The gRPC status code.
        reason: Which entry of the catalog.
        message: What the server says.
        metadata: Of the ErrorInfo.
        fields: The request fields at fault.
    """

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.code = status.code
        self.message = status.message
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(request)
        assert info.domain == "gradwire", status
        assert status.message, status
        self.reason = info.reason
        self.metadata = dict(info.metadata)
        self.fields = [violation.field for violation in request.field_violations]


def _refusal(error: grpc.RpcError) -> Exception:
    status = rpc_status.from_call(cast(grpc.Call, error))
    return error if status is None else RefusedError(status)


def calling(method: Callable[..., Any], request: Any) -> Any:
    """Returns the response of a unary call, or raises what the server says."""
    try:
        return method(request, timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        raise _refusal(error) from None


class Caller:
    """A session, and programs run in it one message at a time."""

    def __init__(self, stubs: Stubs) -> None:
        self.stubs = stubs
        response = calling(stubs.sessions.CreateSession, sessions_pb2.CreateSessionRequest())
        self.name: str = response.session.name
        self._seq = itertools.count(1)
        self._failed_seq = 0

    def close(self) -> None:
        """Ends the session, if it lives."""
        request = sessions_pb2.DeleteSessionRequest(name=self.name)
        with suppress(RefusedError):
            calling(self.stubs.sessions.DeleteSession, request)

    def send(
        self, *commands: sessions_pb2.Command, delivery: values_pb2.Delivery | None = None
    ) -> list[Value]:
        """Sends one message of commands; returns the values it fetches."""
        request = sessions_pb2.ExecuteRequest(
            name=self.name,
            seq=next(self._seq),
            failure_seen_seq=self._failed_seq,
            commands=commands,
            delivery=delivery,
        )
        try:
            (response,) = self.stubs.sessions.Execute(iter([request]), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise _refusal(error) from None
        if response.HasField("failure"):
            self._failed_seq = response.seq
            raise RefusedError(status_pb2.Status.FromString(response.failure.SerializeToString()))
        assert not response.skipped
        return list(response.values)

    def run(
        self,
        *operations: values_pb2.Operation,
        fetch: Sequence[int] = (),
        keep: dict[int, int] | None = None,
        inputs: Sequence[int] = (),
    ) -> list[Value]:
        """Stores a program under handle 1 and runs it; `keep` is handle by operation."""
        program = values_pb2.Program(num_inputs=len(inputs), operations=operations)
        kept = keep or {}
        return self.send(
            sessions_pb2.Command(put_program=sessions_pb2.PutProgram(handle=1, program=program)),
            sessions_pb2.Command(
                run_program=sessions_pb2.RunProgram(
                    program=1,
                    inputs=inputs,
                    keep=list(kept),
                    keep_handles=list(kept.values()),
                    fetch=fetch,
                )
            ),
        )

    def put(self, handle: int, tensor: values_pb2.Tensor) -> None:
        """Stores a tensor."""
        self.send(
            sessions_pb2.Command(put_tensor=sessions_pb2.PutTensor(handle=handle, tensor=tensor))
        )

    def create(self, module: models_pb2.ModuleSpec, **fields: Any) -> models_pb2.Model:
        """Creates a model in the session."""
        request = models_pb2.CreateModelRequest(name=self.name, module=module, **fields)
        model: models_pb2.Model = calling(self.stubs.models.CreateModel, request).model
        return model

    def forward(self, model: str, *inputs: Value, **fields: Any) -> models_pb2.ForwardResponse:
        """Runs a model."""
        request = models_pb2.ForwardRequest(name=model, inputs=inputs, **fields)
        response: models_pb2.ForwardResponse = calling(self.stubs.models.Forward, request)
        return response


def op(name: str, *args: Any, **kwargs: Any) -> values_pb2.Operation:
    """Returns an operation; arguments are Python values or Values."""
    return values_pb2.Operation(
        name=name,
        args=[value(arg) for arg in args],
        kwargs={key: value(arg) for key, arg in kwargs.items()},
    )


def spec(name: str, *args: Any, **kwargs: Any) -> models_pb2.ModuleSpec:
    """Returns a module by class name."""
    return models_pb2.ModuleSpec(
        type=name,
        args=[value(arg) for arg in args],
        kwargs={key: value(arg) for key, arg in kwargs.items()},
    )


def result(index: int) -> Value:
    """Returns a reference to the result of an operation."""
    return Value(result=index)


def handle(number: int) -> Value:
    """Returns a reference to a value of the session."""
    return Value(handle=number)


def floats(numbers: Sequence[float], shape: Sequence[int] | None = None) -> Value:
    """Returns a float32 tensor, 1-D unless a shape is given."""
    return Value(
        tensor=values_pb2.Tensor(
            dtype=values_pb2.DATA_TYPE_FLOAT32,
            shape=[len(numbers)] if shape is None else shape,
            data=struct.pack(f"<{len(numbers)}f", *numbers),
        )
    )


def integers(numbers: Sequence[int], shape: Sequence[int] | None = None) -> Value:
    """Returns an int64 tensor, 1-D unless a shape is given."""
    return Value(
        tensor=values_pb2.Tensor(
            dtype=values_pb2.DATA_TYPE_INT64,
            shape=[len(numbers)] if shape is None else shape,
            data=struct.pack(f"<{len(numbers)}q", *numbers),
        )
    )


def value(given: Any) -> Value:
    """Returns the wire form of a plain Python value."""
    match given:
        case Value():
            return given
        case None:
            return Value(none=values_pb2.NoneValue())
        case bool():
            return Value(bool_value=given)
        case int():
            return Value(int_value=given)
        case float():
            return Value(float_value=given)
        case str():
            return Value(string_value=given)
        case list():
            return Value(list=values_pb2.ValueList(values=[value(each) for each in given]))
        case tuple():
            return Value(tuple=values_pb2.ValueList(values=[value(each) for each in given]))
        case dict():
            entries = [
                values_pb2.ValueEntry(key=key, value=value(each)) for key, each in given.items()
            ]
            return Value(dict=values_pb2.ValueMap(entries=entries))
    raise TypeError(type(given))


def worker_pids(stubs: Stubs) -> list[int]:
    """Returns the process id of each worker; a crash changes one."""
    return [worker.pid for worker in stubs.workers()]


def callers(stubs: Stubs) -> Iterator[Caller]:
    """Yields a caller whose session ends afterwards."""
    caller = Caller(stubs)
    try:
        yield caller
    finally:
        caller.close()
