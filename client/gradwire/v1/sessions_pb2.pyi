import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from gradwire.v1 import errors_pb2 as _errors_pb2
from gradwire.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Session(_message.Message):
    __slots__ = ("name", "device", "worker", "create_time", "last_use_time", "expire_time", "display_name", "tenant", "activity", "exact", "parked")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    name: str
    device: str
    worker: str
    create_time: _timestamp_pb2.Timestamp
    last_use_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    display_name: str
    tenant: str
    activity: SessionActivity
    exact: bool
    parked: bool
    def __init__(self, name: _Optional[str] = ..., device: _Optional[str] = ..., worker: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., display_name: _Optional[str] = ..., tenant: _Optional[str] = ..., activity: _Optional[_Union[SessionActivity, _Mapping]] = ..., exact: _Optional[bool] = ..., parked: _Optional[bool] = ...) -> None: ...

class SessionActivity(_message.Message):
    __slots__ = ("num_bytes", "num_steps", "num_waiting")
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_FIELD_NUMBER: _ClassVar[int]
    num_bytes: int
    num_steps: int
    num_waiting: int
    def __init__(self, num_bytes: _Optional[int] = ..., num_steps: _Optional[int] = ..., num_waiting: _Optional[int] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("request_id", "display_name", "device", "exact")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    display_name: str
    device: str
    exact: bool
    def __init__(self, request_id: _Optional[str] = ..., display_name: _Optional[str] = ..., device: _Optional[str] = ..., exact: _Optional[bool] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "with_activity")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITH_ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    with_activity: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., with_activity: _Optional[bool] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("name", "keep_runs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEEP_RUNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    keep_runs: bool
    def __init__(self, name: _Optional[str] = ..., keep_runs: _Optional[bool] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("name", "seq", "failure_seen_seq", "acknowledged_seq", "commands", "traceparent", "delivery")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FAILURE_SEEN_SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SEQ_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    name: str
    seq: int
    failure_seen_seq: int
    acknowledged_seq: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    traceparent: str
    delivery: _values_pb2.Delivery
    def __init__(self, name: _Optional[str] = ..., seq: _Optional[int] = ..., failure_seen_seq: _Optional[int] = ..., acknowledged_seq: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., traceparent: _Optional[str] = ..., delivery: _Optional[_Union[_values_pb2.Delivery, _Mapping]] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("seq", "values", "failure", "skipped", "server_stopping")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    SERVER_STOPPING_FIELD_NUMBER: _ClassVar[int]
    seq: int
    values: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    failure: _errors_pb2.Failure
    skipped: bool
    server_stopping: bool
    def __init__(self, seq: _Optional[int] = ..., values: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., failure: _Optional[_Union[_errors_pb2.Failure, _Mapping]] = ..., skipped: _Optional[bool] = ..., server_stopping: _Optional[bool] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("put_tensor", "put_program", "run_program", "release_handles", "begin_tensor", "write_tensor", "read_tensor")
    PUT_TENSOR_FIELD_NUMBER: _ClassVar[int]
    PUT_PROGRAM_FIELD_NUMBER: _ClassVar[int]
    RUN_PROGRAM_FIELD_NUMBER: _ClassVar[int]
    RELEASE_HANDLES_FIELD_NUMBER: _ClassVar[int]
    BEGIN_TENSOR_FIELD_NUMBER: _ClassVar[int]
    WRITE_TENSOR_FIELD_NUMBER: _ClassVar[int]
    READ_TENSOR_FIELD_NUMBER: _ClassVar[int]
    put_tensor: PutTensor
    put_program: PutProgram
    run_program: RunProgram
    release_handles: ReleaseHandles
    begin_tensor: BeginTensor
    write_tensor: WriteTensor
    read_tensor: ReadTensor
    def __init__(self, put_tensor: _Optional[_Union[PutTensor, _Mapping]] = ..., put_program: _Optional[_Union[PutProgram, _Mapping]] = ..., run_program: _Optional[_Union[RunProgram, _Mapping]] = ..., release_handles: _Optional[_Union[ReleaseHandles, _Mapping]] = ..., begin_tensor: _Optional[_Union[BeginTensor, _Mapping]] = ..., write_tensor: _Optional[_Union[WriteTensor, _Mapping]] = ..., read_tensor: _Optional[_Union[ReadTensor, _Mapping]] = ...) -> None: ...

class PutTensor(_message.Message):
    __slots__ = ("handle", "tensor")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    handle: int
    tensor: _values_pb2.Tensor
    def __init__(self, handle: _Optional[int] = ..., tensor: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ...) -> None: ...

class BeginTensor(_message.Message):
    __slots__ = ("handle", "tensor")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    handle: int
    tensor: _values_pb2.Tensor
    def __init__(self, handle: _Optional[int] = ..., tensor: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ...) -> None: ...

class WriteTensor(_message.Message):
    __slots__ = ("handle", "offset", "part")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    handle: int
    offset: int
    part: _values_pb2.Tensor
    def __init__(self, handle: _Optional[int] = ..., offset: _Optional[int] = ..., part: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ReadTensor(_message.Message):
    __slots__ = ("handle", "offset", "size_bytes")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    handle: int
    offset: int
    size_bytes: int
    def __init__(self, handle: _Optional[int] = ..., offset: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class PutProgram(_message.Message):
    __slots__ = ("handle", "program")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    handle: int
    program: _values_pb2.Program
    def __init__(self, handle: _Optional[int] = ..., program: _Optional[_Union[_values_pb2.Program, _Mapping]] = ...) -> None: ...

class RunProgram(_message.Message):
    __slots__ = ("program", "inputs", "keep", "keep_handles", "fetch", "release")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    KEEP_HANDLES_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    program: int
    inputs: _containers.RepeatedScalarFieldContainer[int]
    keep: _containers.RepeatedScalarFieldContainer[int]
    keep_handles: _containers.RepeatedScalarFieldContainer[int]
    fetch: _containers.RepeatedScalarFieldContainer[int]
    release: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, program: _Optional[int] = ..., inputs: _Optional[_Iterable[int]] = ..., keep: _Optional[_Iterable[int]] = ..., keep_handles: _Optional[_Iterable[int]] = ..., fetch: _Optional[_Iterable[int]] = ..., release: _Optional[_Iterable[int]] = ...) -> None: ...

class ReleaseHandles(_message.Message):
    __slots__ = ("handles",)
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, handles: _Optional[_Iterable[int]] = ...) -> None: ...

class FetchValuesRequest(_message.Message):
    __slots__ = ("name", "handles")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., handles: _Optional[_Iterable[int]] = ...) -> None: ...

class FetchValuesResponse(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    def __init__(self, values: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ...) -> None: ...

class ReleaseValuesRequest(_message.Message):
    __slots__ = ("name", "handles")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., handles: _Optional[_Iterable[int]] = ...) -> None: ...

class ReleaseValuesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateRegionRequest(_message.Message):
    __slots__ = ("name", "size_bytes", "region")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    region: int
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., region: _Optional[int] = ...) -> None: ...

class CreateRegionResponse(_message.Message):
    __slots__ = ("region", "size_bytes", "ticket")
    REGION_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    region: int
    size_bytes: int
    ticket: bytes
    def __init__(self, region: _Optional[int] = ..., size_bytes: _Optional[int] = ..., ticket: _Optional[bytes] = ...) -> None: ...
