from gradwire.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_TRAIN: _ClassVar[Mode]
    MODE_EVAL: _ClassVar[Mode]

class TensorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TENSOR_KIND_UNSPECIFIED: _ClassVar[TensorKind]
    TENSOR_KIND_PARAMETER: _ClassVar[TensorKind]
    TENSOR_KIND_GRADIENT: _ClassVar[TensorKind]
    TENSOR_KIND_BUFFER: _ClassVar[TensorKind]
MODE_UNSPECIFIED: Mode
MODE_TRAIN: Mode
MODE_EVAL: Mode
TENSOR_KIND_UNSPECIFIED: TensorKind
TENSOR_KIND_PARAMETER: TensorKind
TENSOR_KIND_GRADIENT: TensorKind
TENSOR_KIND_BUFFER: TensorKind

class ModuleSpec(_message.Message):
    __slots__ = ("type", "args", "kwargs", "children", "tensors", "forward", "handle", "init")
    class KwargsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    INIT_FIELD_NUMBER: _ClassVar[int]
    type: str
    args: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    kwargs: _containers.MessageMap[str, _values_pb2.Value]
    children: _containers.RepeatedCompositeFieldContainer[ChildModule]
    tensors: _containers.RepeatedCompositeFieldContainer[ModuleTensor]
    forward: _values_pb2.Program
    handle: int
    init: _values_pb2.Program
    def __init__(self, type: _Optional[str] = ..., args: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., kwargs: _Optional[_Mapping[str, _values_pb2.Value]] = ..., children: _Optional[_Iterable[_Union[ChildModule, _Mapping]]] = ..., tensors: _Optional[_Iterable[_Union[ModuleTensor, _Mapping]]] = ..., forward: _Optional[_Union[_values_pb2.Program, _Mapping]] = ..., handle: _Optional[int] = ..., init: _Optional[_Union[_values_pb2.Program, _Mapping]] = ...) -> None: ...

class ChildModule(_message.Message):
    __slots__ = ("name", "module")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODULE_FIELD_NUMBER: _ClassVar[int]
    name: str
    module: ModuleSpec
    def __init__(self, name: _Optional[str] = ..., module: _Optional[_Union[ModuleSpec, _Mapping]] = ...) -> None: ...

class ModuleTensor(_message.Message):
    __slots__ = ("name", "buffer", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUFFER_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    buffer: bool
    value: _values_pb2.Value
    def __init__(self, name: _Optional[str] = ..., buffer: _Optional[bool] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...

class OptimizerSpec(_message.Message):
    __slots__ = ("type", "kwargs", "groups", "handle")
    class KwargsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    type: str
    kwargs: _containers.MessageMap[str, _values_pb2.Value]
    groups: _containers.RepeatedCompositeFieldContainer[ParameterGroup]
    handle: int
    def __init__(self, type: _Optional[str] = ..., kwargs: _Optional[_Mapping[str, _values_pb2.Value]] = ..., groups: _Optional[_Iterable[_Union[ParameterGroup, _Mapping]]] = ..., handle: _Optional[int] = ...) -> None: ...

class ParameterGroup(_message.Message):
    __slots__ = ("parameters", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedScalarFieldContainer[str]
    options: _containers.MessageMap[str, _values_pb2.Value]
    def __init__(self, parameters: _Optional[_Iterable[str]] = ..., options: _Optional[_Mapping[str, _values_pb2.Value]] = ...) -> None: ...

class LossSpec(_message.Message):
    __slots__ = ("catalog", "program", "handle")
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    catalog: CatalogLoss
    program: _values_pb2.Program
    handle: int
    def __init__(self, catalog: _Optional[_Union[CatalogLoss, _Mapping]] = ..., program: _Optional[_Union[_values_pb2.Program, _Mapping]] = ..., handle: _Optional[int] = ...) -> None: ...

class CatalogLoss(_message.Message):
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

class Model(_message.Message):
    __slots__ = ("name", "type", "summary", "parameters", "buffers", "num_parameters", "optimizer", "training", "num_steps")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    NUM_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    summary: str
    parameters: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    buffers: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    num_parameters: int
    optimizer: str
    training: bool
    num_steps: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., summary: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., buffers: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., num_parameters: _Optional[int] = ..., optimizer: _Optional[str] = ..., training: _Optional[bool] = ..., num_steps: _Optional[int] = ...) -> None: ...

class TensorInfo(_message.Message):
    __slots__ = ("name", "dtype", "shape", "requires_grad")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_GRAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _values_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    requires_grad: bool
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_values_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., requires_grad: _Optional[bool] = ...) -> None: ...

class NamedTensor(_message.Message):
    __slots__ = ("name", "tensor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    tensor: _values_pb2.Tensor
    def __init__(self, name: _Optional[str] = ..., tensor: _Optional[_Union[_values_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("handle", "value")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    value: _values_pb2.Value
    def __init__(self, handle: _Optional[int] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...

class CreateModelRequest(_message.Message):
    __slots__ = ("name", "request_id", "model_id", "module", "optimizer", "seed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    MODULE_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    model_id: str
    module: ModuleSpec
    optimizer: OptimizerSpec
    seed: int
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., model_id: _Optional[str] = ..., module: _Optional[_Union[ModuleSpec, _Mapping]] = ..., optimizer: _Optional[_Union[OptimizerSpec, _Mapping]] = ..., seed: _Optional[int] = ...) -> None: ...

class CreateModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("name", "page_size", "page_token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    page_size: int
    page_token: str
    def __init__(self, name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ForwardRequest(_message.Message):
    __slots__ = ("name", "request_id", "inputs", "kwargs", "mode", "no_grad", "capture", "handles_only")
    class KwargsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Value, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    NO_GRAD_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    HANDLES_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    inputs: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    kwargs: _containers.MessageMap[str, _values_pb2.Value]
    mode: Mode
    no_grad: bool
    capture: _containers.RepeatedScalarFieldContainer[str]
    handles_only: bool
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., kwargs: _Optional[_Mapping[str, _values_pb2.Value]] = ..., mode: _Optional[_Union[Mode, str]] = ..., no_grad: _Optional[bool] = ..., capture: _Optional[_Iterable[str]] = ..., handles_only: _Optional[bool] = ...) -> None: ...

class ForwardResponse(_message.Message):
    __slots__ = ("output", "captured", "input_handles")
    class CapturedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Output
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Output, _Mapping]] = ...) -> None: ...
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    INPUT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    output: Output
    captured: _containers.MessageMap[str, Output]
    input_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, output: _Optional[_Union[Output, _Mapping]] = ..., captured: _Optional[_Mapping[str, Output]] = ..., input_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class ComputeLossRequest(_message.Message):
    __slots__ = ("name", "request_id", "loss", "outputs", "targets")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    loss: LossSpec
    outputs: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    targets: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., loss: _Optional[_Union[LossSpec, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ...) -> None: ...

class ComputeLossResponse(_message.Message):
    __slots__ = ("loss",)
    LOSS_FIELD_NUMBER: _ClassVar[int]
    loss: Output
    def __init__(self, loss: _Optional[_Union[Output, _Mapping]] = ...) -> None: ...

class BackwardRequest(_message.Message):
    __slots__ = ("name", "request_id", "handle", "gradient", "retain_graph", "gradients")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    RETAIN_GRAPH_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    handle: int
    gradient: _values_pb2.Value
    retain_graph: bool
    gradients: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., handle: _Optional[int] = ..., gradient: _Optional[_Union[_values_pb2.Value, _Mapping]] = ..., retain_graph: _Optional[bool] = ..., gradients: _Optional[_Iterable[int]] = ...) -> None: ...

class BackwardResponse(_message.Message):
    __slots__ = ("gradients",)
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    gradients: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    def __init__(self, gradients: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ...) -> None: ...

class ZeroGradRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ZeroGradResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StepRequest(_message.Message):
    __slots__ = ("name", "request_id", "clip_grad_norm", "closure")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CLIP_GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    CLOSURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    clip_grad_norm: float
    closure: Closure
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., clip_grad_norm: _Optional[float] = ..., closure: _Optional[_Union[Closure, _Mapping]] = ...) -> None: ...

class Closure(_message.Message):
    __slots__ = ("inputs", "loss", "targets")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    loss: LossSpec
    targets: _containers.RepeatedCompositeFieldContainer[_values_pb2.Value]
    def __init__(self, inputs: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ..., loss: _Optional[_Union[LossSpec, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[_values_pb2.Value, _Mapping]]] = ...) -> None: ...

class StepResponse(_message.Message):
    __slots__ = ("num_steps", "grad_norm", "loss")
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    num_steps: int
    grad_norm: float
    loss: float
    def __init__(self, num_steps: _Optional[int] = ..., grad_norm: _Optional[float] = ..., loss: _Optional[float] = ...) -> None: ...

class FetchTensorsRequest(_message.Message):
    __slots__ = ("name", "kinds", "tensors")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kinds: _containers.RepeatedScalarFieldContainer[TensorKind]
    tensors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[TensorKind, str]]] = ..., tensors: _Optional[_Iterable[str]] = ...) -> None: ...

class FetchTensorsResponse(_message.Message):
    __slots__ = ("parameters", "gradients", "buffers")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    gradients: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    buffers: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    def __init__(self, parameters: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ..., gradients: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ..., buffers: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ...) -> None: ...

class SetTensorsRequest(_message.Message):
    __slots__ = ("name", "request_id", "parameters", "gradients", "buffers")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    parameters: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    gradients: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    buffers: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ..., gradients: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ..., buffers: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ...) -> None: ...

class SetTensorsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
