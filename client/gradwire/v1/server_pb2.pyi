from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_STARTING: _ClassVar[WorkerState]
    WORKER_STATE_READY: _ClassVar[WorkerState]
    WORKER_STATE_STOPPED: _ClassVar[WorkerState]

class CatalogKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CATALOG_KIND_UNSPECIFIED: _ClassVar[CatalogKind]
    CATALOG_KIND_OPERATION: _ClassVar[CatalogKind]
    CATALOG_KIND_MODULE: _ClassVar[CatalogKind]
    CATALOG_KIND_LOSS: _ClassVar[CatalogKind]
    CATALOG_KIND_OPTIMIZER: _ClassVar[CatalogKind]
    CATALOG_KIND_SCHEDULER: _ClassVar[CatalogKind]
    CATALOG_KIND_INITIALIZER: _ClassVar[CatalogKind]
    CATALOG_KIND_INTRINSIC: _ClassVar[CatalogKind]
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_STARTING: WorkerState
WORKER_STATE_READY: WorkerState
WORKER_STATE_STOPPED: WorkerState
CATALOG_KIND_UNSPECIFIED: CatalogKind
CATALOG_KIND_OPERATION: CatalogKind
CATALOG_KIND_MODULE: CatalogKind
CATALOG_KIND_LOSS: CatalogKind
CATALOG_KIND_OPTIMIZER: CatalogKind
CATALOG_KIND_SCHEDULER: CatalogKind
CATALOG_KIND_INITIALIZER: CatalogKind
CATALOG_KIND_INTRINSIC: CatalogKind

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("server_version", "torch_version", "python_version", "workers", "limits", "region_sockets")
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    TORCH_VERSION_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    REGION_SOCKETS_FIELD_NUMBER: _ClassVar[int]
    server_version: str
    torch_version: str
    python_version: str
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    limits: Limits
    region_sockets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, server_version: _Optional[str] = ..., torch_version: _Optional[str] = ..., python_version: _Optional[str] = ..., workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., region_sockets: _Optional[_Iterable[str]] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("id", "device", "device_name", "state", "num_sessions", "num_restarts", "num_threads", "pid")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    NUM_THREADS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    id: str
    device: str
    device_name: str
    state: WorkerState
    num_sessions: int
    num_restarts: int
    num_threads: int
    pid: int
    def __init__(self, id: _Optional[str] = ..., device: _Optional[str] = ..., device_name: _Optional[str] = ..., state: _Optional[_Union[WorkerState, str]] = ..., num_sessions: _Optional[int] = ..., num_restarts: _Optional[int] = ..., num_threads: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_sessions", "max_session_bytes", "max_program_operations", "max_queued_messages", "session_idle_timeout_seconds", "parked_session_ttl_seconds", "checkpoint_ttl_seconds", "max_dataset_bytes", "max_dataset_columns", "max_total_dataset_bytes", "max_total_checkpoint_bytes", "max_bytes", "max_runs", "max_requests_per_second", "max_tenant_sessions", "max_tenant_bytes", "max_tenant_runs", "max_tenant_requests_per_second", "max_tenant_message_bytes", "max_tenant_total_dataset_bytes", "max_tenant_total_checkpoint_bytes", "max_command_seconds", "max_session_shared_bytes", "max_shared_bytes", "max_tenant_shared_bytes")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PROGRAM_OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SESSION_IDLE_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PARKED_SESSION_TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_DATASET_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DATASET_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOTAL_DATASET_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOTAL_CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNS_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_RUNS_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_TOTAL_DATASET_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_TOTAL_CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_COMMAND_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_SHARED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SHARED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TENANT_SHARED_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_sessions: int
    max_session_bytes: int
    max_program_operations: int
    max_queued_messages: int
    session_idle_timeout_seconds: float
    parked_session_ttl_seconds: float
    checkpoint_ttl_seconds: float
    max_dataset_bytes: int
    max_dataset_columns: int
    max_total_dataset_bytes: int
    max_total_checkpoint_bytes: int
    max_bytes: int
    max_runs: int
    max_requests_per_second: float
    max_tenant_sessions: int
    max_tenant_bytes: int
    max_tenant_runs: int
    max_tenant_requests_per_second: float
    max_tenant_message_bytes: int
    max_tenant_total_dataset_bytes: int
    max_tenant_total_checkpoint_bytes: int
    max_command_seconds: float
    max_session_shared_bytes: int
    max_shared_bytes: int
    max_tenant_shared_bytes: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_sessions: _Optional[int] = ..., max_session_bytes: _Optional[int] = ..., max_program_operations: _Optional[int] = ..., max_queued_messages: _Optional[int] = ..., session_idle_timeout_seconds: _Optional[float] = ..., parked_session_ttl_seconds: _Optional[float] = ..., checkpoint_ttl_seconds: _Optional[float] = ..., max_dataset_bytes: _Optional[int] = ..., max_dataset_columns: _Optional[int] = ..., max_total_dataset_bytes: _Optional[int] = ..., max_total_checkpoint_bytes: _Optional[int] = ..., max_bytes: _Optional[int] = ..., max_runs: _Optional[int] = ..., max_requests_per_second: _Optional[float] = ..., max_tenant_sessions: _Optional[int] = ..., max_tenant_bytes: _Optional[int] = ..., max_tenant_runs: _Optional[int] = ..., max_tenant_requests_per_second: _Optional[float] = ..., max_tenant_message_bytes: _Optional[int] = ..., max_tenant_total_dataset_bytes: _Optional[int] = ..., max_tenant_total_checkpoint_bytes: _Optional[int] = ..., max_command_seconds: _Optional[float] = ..., max_session_shared_bytes: _Optional[int] = ..., max_shared_bytes: _Optional[int] = ..., max_tenant_shared_bytes: _Optional[int] = ...) -> None: ...

class GetCatalogRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCatalogResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[CatalogEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[CatalogEntry, _Mapping]]] = ...) -> None: ...

class CatalogEntry(_message.Message):
    __slots__ = ("name", "kind", "signature")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: CatalogKind
    signature: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[CatalogKind, str]] = ..., signature: _Optional[str] = ...) -> None: ...
