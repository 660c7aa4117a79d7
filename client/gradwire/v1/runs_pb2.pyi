import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from gradwire.v1 import datasets_pb2 as _datasets_pb2
from gradwire.v1 import errors_pb2 as _errors_pb2
from gradwire.v1 import models_pb2 as _models_pb2
from gradwire.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SchedulerInterval(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEDULER_INTERVAL_UNSPECIFIED: _ClassVar[SchedulerInterval]
    SCHEDULER_INTERVAL_STEP: _ClassVar[SchedulerInterval]
    SCHEDULER_INTERVAL_EPOCH: _ClassVar[SchedulerInterval]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_BFLOAT16: _ClassVar[Precision]
    PRECISION_FLOAT16: _ClassVar[Precision]

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_MIN: _ClassVar[Direction]
    DIRECTION_MAX: _ClassVar[Direction]

class OnNonFinite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_NON_FINITE_UNSPECIFIED: _ClassVar[OnNonFinite]
    ON_NON_FINITE_RAISE: _ClassVar[OnNonFinite]
    ON_NON_FINITE_STOP: _ClassVar[OnNonFinite]
    ON_NON_FINITE_SKIP: _ClassVar[OnNonFinite]

class RunState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATE_UNSPECIFIED: _ClassVar[RunState]
    RUN_STATE_QUEUED: _ClassVar[RunState]
    RUN_STATE_RUNNING: _ClassVar[RunState]
    RUN_STATE_PAUSED: _ClassVar[RunState]
    RUN_STATE_SUCCEEDED: _ClassVar[RunState]
    RUN_STATE_FAILED: _ClassVar[RunState]
    RUN_STATE_CANCELLED: _ClassVar[RunState]
SCHEDULER_INTERVAL_UNSPECIFIED: SchedulerInterval
SCHEDULER_INTERVAL_STEP: SchedulerInterval
SCHEDULER_INTERVAL_EPOCH: SchedulerInterval
PRECISION_UNSPECIFIED: Precision
PRECISION_BFLOAT16: Precision
PRECISION_FLOAT16: Precision
DIRECTION_UNSPECIFIED: Direction
DIRECTION_MIN: Direction
DIRECTION_MAX: Direction
ON_NON_FINITE_UNSPECIFIED: OnNonFinite
ON_NON_FINITE_RAISE: OnNonFinite
ON_NON_FINITE_STOP: OnNonFinite
ON_NON_FINITE_SKIP: OnNonFinite
RUN_STATE_UNSPECIFIED: RunState
RUN_STATE_QUEUED: RunState
RUN_STATE_RUNNING: RunState
RUN_STATE_PAUSED: RunState
RUN_STATE_SUCCEEDED: RunState
RUN_STATE_FAILED: RunState
RUN_STATE_CANCELLED: RunState

class TrainRequest(_message.Message):
    __slots__ = ("name", "request_id", "inputs", "targets", "loss", "optimizer", "epochs", "batch_size", "shuffle", "drop_last", "seed", "clip_grad_norm", "report_interval_seconds", "steps", "validation", "metrics", "scheduler", "clip_grad_value", "accumulate", "precision", "early_stopping", "checkpoint", "moving_average", "on_nonfinite", "display_name", "cancel_on_disconnect", "data", "transform", "evaluation_transform", "client_state", "kept_handles", "run", "exact")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_FIELD_NUMBER: _ClassVar[int]
    DROP_LAST_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CLIP_GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    REPORT_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    CLIP_GRAD_VALUE_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    EARLY_STOPPING_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    MOVING_AVERAGE_FIELD_NUMBER: _ClassVar[int]
    ON_NONFINITE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    CLIENT_STATE_FIELD_NUMBER: _ClassVar[int]
    KEPT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    inputs: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    targets: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    loss: _models_pb2.LossSpec
    optimizer: _models_pb2.OptimizerSpec
    epochs: int
    batch_size: int
    shuffle: bool
    drop_last: bool
    seed: int
    clip_grad_norm: float
    report_interval_seconds: float
    steps: int
    validation: Validation
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    scheduler: Scheduler
    clip_grad_value: float
    accumulate: int
    precision: Precision
    early_stopping: EarlyStopping
    checkpoint: CheckpointPolicy
    moving_average: MovingAverage
    on_nonfinite: OnNonFinite
    display_name: str
    cancel_on_disconnect: bool
    data: _datasets_pb2.DataSource
    transform: BatchTransform
    evaluation_transform: BatchTransform
    client_state: bytes
    kept_handles: _containers.RepeatedScalarFieldContainer[int]
    run: str
    exact: bool
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., loss: _Optional[_Union[_models_pb2.LossSpec, _Mapping]] = ..., optimizer: _Optional[_Union[_models_pb2.OptimizerSpec, _Mapping]] = ..., epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., shuffle: _Optional[bool] = ..., drop_last: _Optional[bool] = ..., seed: _Optional[int] = ..., clip_grad_norm: _Optional[float] = ..., report_interval_seconds: _Optional[float] = ..., steps: _Optional[int] = ..., validation: _Optional[_Union[Validation, _Mapping]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., scheduler: _Optional[_Union[Scheduler, _Mapping]] = ..., clip_grad_value: _Optional[float] = ..., accumulate: _Optional[int] = ..., precision: _Optional[_Union[Precision, str]] = ..., early_stopping: _Optional[_Union[EarlyStopping, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointPolicy, _Mapping]] = ..., moving_average: _Optional[_Union[MovingAverage, _Mapping]] = ..., on_nonfinite: _Optional[_Union[OnNonFinite, str]] = ..., display_name: _Optional[str] = ..., cancel_on_disconnect: _Optional[bool] = ..., data: _Optional[_Union[_datasets_pb2.DataSource, _Mapping]] = ..., transform: _Optional[_Union[BatchTransform, _Mapping]] = ..., evaluation_transform: _Optional[_Union[BatchTransform, _Mapping]] = ..., client_state: _Optional[bytes] = ..., kept_handles: _Optional[_Iterable[int]] = ..., run: _Optional[str] = ..., exact: _Optional[bool] = ...) -> None: ...

class Validation(_message.Message):
    __slots__ = ("inputs", "targets", "batch_size", "every_steps", "data")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    targets: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    batch_size: int
    every_steps: int
    data: _datasets_pb2.DataSource
    def __init__(self, inputs: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., batch_size: _Optional[int] = ..., every_steps: _Optional[int] = ..., data: _Optional[_Union[_datasets_pb2.DataSource, _Mapping]] = ...) -> None: ...

class BatchTransform(_message.Message):
    __slots__ = ("program", "num_inputs")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    NUM_INPUTS_FIELD_NUMBER: _ClassVar[int]
    program: _values_pb2.Program
    num_inputs: int
    def __init__(self, program: _Optional[_Union[_values_pb2.Program, _Mapping]] = ..., num_inputs: _Optional[int] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "torchmetric", "program")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TORCHMETRIC_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    name: str
    torchmetric: TorchMetric
    program: _values_pb2.Program
    def __init__(self, name: _Optional[str] = ..., torchmetric: _Optional[_Union[TorchMetric, _Mapping]] = ..., program: _Optional[_Union[_values_pb2.Program, _Mapping]] = ...) -> None: ...

class TorchMetric(_message.Message):
    __slots__ = ("type", "kwargs")
    class KwargsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    type: str
    kwargs: _containers.MessageMap[str, _values_pb2.Value]
    def __init__(self, type: _Optional[str] = ..., kwargs: _Optional[_Mapping[str, _values_pb2.Value]] = ...) -> None: ...

class Scheduler(_message.Message):
    __slots__ = ("type", "kwargs", "handle", "interval", "monitor", "tables")
    class KwargsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    type: str
    kwargs: _containers.MessageMap[str, _values_pb2.Value]
    handle: int
    interval: SchedulerInterval
    monitor: str
    tables: _containers.RepeatedCompositeFieldContainer[FactorTable]
    def __init__(self, type: _Optional[str] = ..., kwargs: _Optional[_Mapping[str, _values_pb2.Value]] = ..., handle: _Optional[int] = ..., interval: _Optional[_Union[SchedulerInterval, str]] = ..., monitor: _Optional[str] = ..., tables: _Optional[_Iterable[_Union[FactorTable, _Mapping]]] = ...) -> None: ...

class FactorTable(_message.Message):
    __slots__ = ("callback", "factors", "failures")
    class FailuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    CALLBACK_FIELD_NUMBER: _ClassVar[int]
    FACTORS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    callback: int
    factors: _containers.RepeatedScalarFieldContainer[float]
    failures: _containers.ScalarMap[int, str]
    def __init__(self, callback: _Optional[int] = ..., factors: _Optional[_Iterable[float]] = ..., failures: _Optional[_Mapping[int, str]] = ...) -> None: ...

class EarlyStopping(_message.Message):
    __slots__ = ("monitor", "patience", "min_delta", "direction", "restore_best")
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    MIN_DELTA_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    RESTORE_BEST_FIELD_NUMBER: _ClassVar[int]
    monitor: str
    patience: int
    min_delta: float
    direction: Direction
    restore_best: bool
    def __init__(self, monitor: _Optional[str] = ..., patience: _Optional[int] = ..., min_delta: _Optional[float] = ..., direction: _Optional[_Union[Direction, str]] = ..., restore_best: _Optional[bool] = ...) -> None: ...

class CheckpointPolicy(_message.Message):
    __slots__ = ("disabled", "every_steps", "every_seconds", "keep_last", "keep_best", "monitor", "direction", "ttl_seconds")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    EVERY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_LAST_FIELD_NUMBER: _ClassVar[int]
    KEEP_BEST_FIELD_NUMBER: _ClassVar[int]
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    every_steps: int
    every_seconds: float
    keep_last: int
    keep_best: bool
    monitor: str
    direction: Direction
    ttl_seconds: float
    def __init__(self, disabled: _Optional[bool] = ..., every_steps: _Optional[int] = ..., every_seconds: _Optional[float] = ..., keep_last: _Optional[int] = ..., keep_best: _Optional[bool] = ..., monitor: _Optional[str] = ..., direction: _Optional[_Union[Direction, str]] = ..., ttl_seconds: _Optional[float] = ...) -> None: ...

class MovingAverage(_message.Message):
    __slots__ = ("decay", "kept_handles")
    class KeptHandlesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DECAY_FIELD_NUMBER: _ClassVar[int]
    KEPT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    decay: float
    kept_handles: _containers.ScalarMap[str, int]
    def __init__(self, decay: _Optional[float] = ..., kept_handles: _Optional[_Mapping[str, int]] = ...) -> None: ...

class TrainResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: RunEvent
    def __init__(self, event: _Optional[_Union[RunEvent, _Mapping]] = ...) -> None: ...

class RunEvent(_message.Message):
    __slots__ = ("number", "time", "created", "started", "progress", "validation", "checkpoint", "warning", "state_change", "ended")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    STATE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    number: int
    time: _timestamp_pb2.Timestamp
    created: RunCreated
    started: RunStarted
    progress: RunProgress
    validation: RunValidation
    checkpoint: RunCheckpoint
    warning: RunWarning
    state_change: RunStateChange
    ended: RunEnded
    def __init__(self, number: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created: _Optional[_Union[RunCreated, _Mapping]] = ..., started: _Optional[_Union[RunStarted, _Mapping]] = ..., progress: _Optional[_Union[RunProgress, _Mapping]] = ..., validation: _Optional[_Union[RunValidation, _Mapping]] = ..., checkpoint: _Optional[_Union[RunCheckpoint, _Mapping]] = ..., warning: _Optional[_Union[RunWarning, _Mapping]] = ..., state_change: _Optional[_Union[RunStateChange, _Mapping]] = ..., ended: _Optional[_Union[RunEnded, _Mapping]] = ...) -> None: ...

class RunCreated(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RunStarted(_message.Message):
    __slots__ = ("num_samples", "batches_per_epoch", "num_steps", "device", "num_epochs", "display_name", "cancel_on_disconnect", "exact", "steps_per_epoch")
    NUM_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BATCHES_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NUM_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    num_samples: int
    batches_per_epoch: int
    num_steps: int
    device: str
    num_epochs: int
    display_name: str
    cancel_on_disconnect: bool
    exact: bool
    steps_per_epoch: int
    def __init__(self, num_samples: _Optional[int] = ..., batches_per_epoch: _Optional[int] = ..., num_steps: _Optional[int] = ..., device: _Optional[str] = ..., num_epochs: _Optional[int] = ..., display_name: _Optional[str] = ..., cancel_on_disconnect: _Optional[bool] = ..., exact: _Optional[bool] = ..., steps_per_epoch: _Optional[int] = ...) -> None: ...

class RunProgress(_message.Message):
    __slots__ = ("epoch", "step", "losses", "mean_loss", "learning_rates", "samples_per_second", "elapsed_seconds", "grad_norm", "remaining_seconds", "memory_bytes", "epochs")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOSS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    step: int
    losses: _containers.RepeatedScalarFieldContainer[float]
    mean_loss: float
    learning_rates: _containers.RepeatedScalarFieldContainer[float]
    samples_per_second: float
    elapsed_seconds: float
    grad_norm: float
    remaining_seconds: float
    memory_bytes: int
    epochs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epoch: _Optional[int] = ..., step: _Optional[int] = ..., losses: _Optional[_Iterable[float]] = ..., mean_loss: _Optional[float] = ..., learning_rates: _Optional[_Iterable[float]] = ..., samples_per_second: _Optional[float] = ..., elapsed_seconds: _Optional[float] = ..., grad_norm: _Optional[float] = ..., remaining_seconds: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., epochs: _Optional[_Iterable[int]] = ...) -> None: ...

class RunValidation(_message.Message):
    __slots__ = ("epoch", "step", "values", "earlier")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    step: int
    values: _containers.ScalarMap[str, float]
    earlier: _containers.RepeatedCompositeFieldContainer[RunValidation]
    def __init__(self, epoch: _Optional[int] = ..., step: _Optional[int] = ..., values: _Optional[_Mapping[str, float]] = ..., earlier: _Optional[_Iterable[_Union[RunValidation, _Mapping]]] = ...) -> None: ...

class RunCheckpoint(_message.Message):
    __slots__ = ("name", "step", "num_bytes", "best", "dropped", "keep_last", "earlier")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    KEEP_LAST_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    name: str
    step: int
    num_bytes: int
    best: bool
    dropped: _containers.RepeatedScalarFieldContainer[str]
    keep_last: int
    earlier: _containers.RepeatedCompositeFieldContainer[RunCheckpoint]
    def __init__(self, name: _Optional[str] = ..., step: _Optional[int] = ..., num_bytes: _Optional[int] = ..., best: _Optional[bool] = ..., dropped: _Optional[_Iterable[str]] = ..., keep_last: _Optional[int] = ..., earlier: _Optional[_Iterable[_Union[RunCheckpoint, _Mapping]]] = ...) -> None: ...

class RunWarning(_message.Message):
    __slots__ = ("reason", "message", "step", "parameters", "earlier")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    step: int
    parameters: _containers.RepeatedScalarFieldContainer[str]
    earlier: _containers.RepeatedCompositeFieldContainer[RunWarning]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., step: _Optional[int] = ..., parameters: _Optional[_Iterable[str]] = ..., earlier: _Optional[_Iterable[_Union[RunWarning, _Mapping]]] = ...) -> None: ...

class RunStateChange(_message.Message):
    __slots__ = ("state", "reason", "step")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    state: RunState
    reason: str
    step: int
    def __init__(self, state: _Optional[_Union[RunState, str]] = ..., reason: _Optional[str] = ..., step: _Optional[int] = ...) -> None: ...

class RunEnded(_message.Message):
    __slots__ = ("num_steps", "mean_loss", "elapsed_seconds", "state", "reason", "failure", "moving_average_model")
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOSS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    MOVING_AVERAGE_MODEL_FIELD_NUMBER: _ClassVar[int]
    num_steps: int
    mean_loss: float
    elapsed_seconds: float
    state: RunState
    reason: str
    failure: _errors_pb2.Failure
    moving_average_model: str
    def __init__(self, num_steps: _Optional[int] = ..., mean_loss: _Optional[float] = ..., elapsed_seconds: _Optional[float] = ..., state: _Optional[_Union[RunState, str]] = ..., reason: _Optional[str] = ..., failure: _Optional[_Union[_errors_pb2.Failure, _Mapping]] = ..., moving_average_model: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("name", "display_name", "state", "reason", "create_time", "end_time", "last_event", "step", "num_steps", "epoch", "num_epochs", "mean_loss", "validation", "device", "elapsed_seconds", "checkpoints", "num_recoveries", "model", "steps_per_epoch", "exact")
    class ValidationEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUM_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOSS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    NUM_RECOVERIES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    state: RunState
    reason: str
    create_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    last_event: int
    step: int
    num_steps: int
    epoch: int
    num_epochs: int
    mean_loss: float
    validation: _containers.ScalarMap[str, float]
    device: str
    elapsed_seconds: float
    checkpoints: _containers.RepeatedScalarFieldContainer[str]
    num_recoveries: int
    model: str
    steps_per_epoch: int
    exact: bool
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., state: _Optional[_Union[RunState, str]] = ..., reason: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_event: _Optional[int] = ..., step: _Optional[int] = ..., num_steps: _Optional[int] = ..., epoch: _Optional[int] = ..., num_epochs: _Optional[int] = ..., mean_loss: _Optional[float] = ..., validation: _Optional[_Mapping[str, float]] = ..., device: _Optional[str] = ..., elapsed_seconds: _Optional[float] = ..., checkpoints: _Optional[_Iterable[str]] = ..., num_recoveries: _Optional[int] = ..., model: _Optional[str] = ..., steps_per_epoch: _Optional[int] = ..., exact: _Optional[bool] = ...) -> None: ...

class FeedRunRequest(_message.Message):
    __slots__ = ("name", "stream", "seq", "inputs", "targets", "ends_epoch", "ends_stream", "failure")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    ENDS_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENDS_STREAM_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    stream: str
    seq: int
    inputs: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    targets: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    ends_epoch: bool
    ends_stream: bool
    failure: str
    def __init__(self, name: _Optional[str] = ..., stream: _Optional[str] = ..., seq: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., ends_epoch: _Optional[bool] = ..., ends_stream: _Optional[bool] = ..., failure: _Optional[str] = ...) -> None: ...

class FeedRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("name", "from_event")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FROM_EVENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    from_event: int
    def __init__(self, name: _Optional[str] = ..., from_event: _Optional[int] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: RunEvent
    def __init__(self, event: _Optional[_Union[RunEvent, _Mapping]] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class PauseRunRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class PauseRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class ResumeRunRequest(_message.Message):
    __slots__ = ("name", "reported_steps")
    class ReportedStepsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPORTED_STEPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    reported_steps: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., reported_steps: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ResumeRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: Run
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ...) -> None: ...

class DeleteRunRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
