from gradwire.v1 import models_pb2 as _models_pb2
from gradwire.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainRequest(_message.Message):
    __slots__ = ("name", "request_id", "inputs", "targets", "loss", "optimizer", "epochs", "batch_size", "shuffle", "drop_last", "seed", "clip_grad_norm", "report_interval_seconds")
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
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., loss: _Optional[_Union[_models_pb2.LossSpec, _Mapping]] = ..., optimizer: _Optional[_Union[_models_pb2.OptimizerSpec, _Mapping]] = ..., epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., shuffle: _Optional[bool] = ..., drop_last: _Optional[bool] = ..., seed: _Optional[int] = ..., clip_grad_norm: _Optional[float] = ..., report_interval_seconds: _Optional[float] = ...) -> None: ...

class TrainResponse(_message.Message):
    __slots__ = ("number", "started", "progress", "ended")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    number: int
    started: RunStarted
    progress: RunProgress
    ended: RunEnded
    def __init__(self, number: _Optional[int] = ..., started: _Optional[_Union[RunStarted, _Mapping]] = ..., progress: _Optional[_Union[RunProgress, _Mapping]] = ..., ended: _Optional[_Union[RunEnded, _Mapping]] = ...) -> None: ...

class RunStarted(_message.Message):
    __slots__ = ("num_samples", "steps_per_epoch", "num_steps", "device")
    NUM_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    num_samples: int
    steps_per_epoch: int
    num_steps: int
    device: str
    def __init__(self, num_samples: _Optional[int] = ..., steps_per_epoch: _Optional[int] = ..., num_steps: _Optional[int] = ..., device: _Optional[str] = ...) -> None: ...

class RunProgress(_message.Message):
    __slots__ = ("epoch", "step", "losses", "mean_loss", "learning_rate", "samples_per_second", "elapsed_seconds")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOSS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    step: int
    losses: _containers.RepeatedScalarFieldContainer[float]
    mean_loss: float
    learning_rate: float
    samples_per_second: float
    elapsed_seconds: float
    def __init__(self, epoch: _Optional[int] = ..., step: _Optional[int] = ..., losses: _Optional[_Iterable[float]] = ..., mean_loss: _Optional[float] = ..., learning_rate: _Optional[float] = ..., samples_per_second: _Optional[float] = ..., elapsed_seconds: _Optional[float] = ...) -> None: ...

class RunEnded(_message.Message):
    __slots__ = ("num_steps", "mean_loss", "elapsed_seconds")
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOSS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    num_steps: int
    mean_loss: float
    elapsed_seconds: float
    def __init__(self, num_steps: _Optional[int] = ..., mean_loss: _Optional[float] = ..., elapsed_seconds: _Optional[float] = ...) -> None: ...
