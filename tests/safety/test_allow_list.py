"""Nothing that a name on the wire stands for reaches files, processes, the network or code."""

import inspect
import re
import types
from collections.abc import Iterator
from typing import Any

import pytest

from gradwire.v1 import catalog, server_pb2
from gradwire_server.engine.registry import KIND_OF_NAME, torch_object
from tests.safety.caller import (
    Caller,
    RefusedError,
    calling,
    floats,
    handle,
    op,
    result,
    spec,
    value,
)
from tests.safety.conftest import SmallServer

REACHING = """
    torch.load torch.save torch.from_file torch.frombuffer torch.from_numpy torch.from_dlpack
    torch.compile torch.jit.load torch.jit.script torch.jit.trace torch.hub.load torch.hub.download
    torch.utils.cpp_extension.load torch.utils.model_zoo.load_url torch.ops.load_library
    torch.classes.load_library torch.package.PackageImporter torch.serialization.load
    torch.onnx.export torch.export.load torch.multiprocessing.spawn torch.distributed.rpc.rpc_sync
    torch.Tensor.__class__ torch.Tensor.__reduce_ex__ torch.Tensor.__setstate__ torch.Tensor.numpy
    torch.Tensor.share_memory_ torch.Tensor.apply_ torch.Tensor.map_ torch.Tensor.data_ptr
    torch.Tensor.storage torch.Tensor.untyped_storage torch.Tensor.set_ torch.Tensor.register_hook
    torch.nn.Module.register_forward_hook torch.nn.Module.register_full_backward_hook
    torch.nn.Module.apply torch.nn.Module.load_state_dict torch.nn.Module.__setattr__
    torch.nn.modules.module.register_module_forward_hook torch.autograd.Function.apply
    torch.set_default_dtype torch.set_default_device torch.set_num_threads torch.set_printoptions
    torch.use_deterministic_algorithms torch.cuda.manual_seed torch.backends.mkldnn.set_flags
    torch._C._jit_get_operation torch._dynamo.optimize torch.fx.symbolic_trace torch.vmap
    torch.func.functional_call torch.nn.utils.parametrize.register_parametrization
    aten.from_file aten.from_file.default aten.set_.source_Storage prims.device_put
    os.system os.path.join builtins.eval builtins.open eval exec __import__ sys.exit
    gradwire.table gradwire.close gradwire.close_contexts gradwire.__init__ gradwire._contexts
""".split()

DANGEROUS_MODULES = re.compile(
    r"(torch\.(serialization|hub|package|jit|_inductor|_dynamo|onnx|multiprocessing|distributed"
    r"|utils\.(cpp_extension|data|model_zoo)|storage|_ops|library)|os|posix|subprocess|socket|shutil"
    r"|io|_io|pickle|marshal|importlib|ctypes|builtins|runpy|tempfile|urllib|http)(\.|$)"
)
DANGEROUS_CALLS = frozenset(
    "open eval exec compile __import__ system popen urlopen socket Popen load_library dlopen"
    " from_file unlink makedirs import_module".split()
)


@pytest.mark.usefixtures("unharmed")
def test_what_could_reach_out_is_an_unknown_name(caller: Caller) -> None:
    for name in REACHING:
        with pytest.raises(RefusedError) as caught:
            caller.run(op(name, "x"))
        assert caught.value.reason == "UNKNOWN_NAME", caught.value.message
        assert repr(name) in caught.value.message
        assert caught.value.fields == ["put_program.program.operations[0].name"]
        with pytest.raises(RefusedError) as caught:
            caller.create(spec(name))
        assert caught.value.reason == "UNKNOWN_NAME"


@pytest.mark.parametrize(
    ("wrong", "close"),
    [
        ("torch.reluu", "torch.relu"),
        ("torch.nn.functional.mse_los", "torch.nn.functional.mse_loss"),
        ("nn.functional.gelu", "torch.nn.functional.gelu"),
        ("torch.Tensor.vieww", "torch.Tensor.view"),
    ],
)
def test_an_unknown_name_is_told_the_closest(caller: Caller, wrong: str, close: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(close)):
        caller.run(op(wrong, floats([1.0])))


def test_what_the_server_lists_is_the_catalog_and_intrinsics(small_server: SmallServer) -> None:
    response = calling(small_server.stubs.server.GetCatalog, server_pb2.GetCatalogRequest())
    listed = {entry.name for entry in response.entries}
    intrinsic = {name for name in listed if name.startswith("gradwire.")}
    assert listed - intrinsic == set(KIND_OF_NAME)
    assert not any(name.rpartition(".")[2].startswith("_") for name in intrinsic)


def functions_behind(target: Any) -> Iterator[types.FunctionType]:
    """Yields the Python functions that a cataloged object runs itself: methods, of a class."""
    members = [target]
    if isinstance(target, type):
        own = [base for base in target.__mro__ if base.__module__.startswith("torch.")]
        members = [member for base in own for member in vars(base).values()]
    for member in members:
        function = inspect.unwrap(member) if isinstance(member, types.FunctionType) else None
        if isinstance(function, types.FunctionType):
            yield function


GENERIC_METHODS = frozenset(
    # Of every module; no name of the catalog leads to them, which a test below holds.
    "compile __setstate__ share_memory load_state_dict".split()
)


def test_no_cataloged_function_of_python_calls_what_reaches_out() -> None:
    """Reads the code of each: the names that it calls, and the modules these come from."""
    found = {}
    for name in KIND_OF_NAME:
        for function in functions_behind(torch_object(name)):
            if function.__name__ in GENERIC_METHODS:
                continue
            used = set(function.__code__.co_names)
            reached = used & DANGEROUS_CALLS
            for each in used:
                origin = getattr(function.__globals__.get(each), "__module__", None) or ""
                is_module = isinstance(function.__globals__.get(each), types.ModuleType)
                home = function.__globals__[each].__name__ if is_module else origin
                if DANGEROUS_MODULES.match(home) and each not in HARMLESS:
                    reached.add(f"{home}.{each}")
            if reached:
                found[f"{name}: {function.__qualname__}"] = reached
    assert found == {
        # Where algorithms are deterministic: a module of torch's, by a constant name.
        f"torch.nn.functional.{name}: {name}": {"importlib.importlib", "import_module"}
        for name in ("interpolate", "max_pool3d_with_indices", "pad")
    }


HARMLESS = frozenset(
    # Decorators and questions; none of them takes a name or a path from the caller.
    "_jit_internal _overload boolean_dispatch is_scripting is_tracing unused BroadcastingList1"
    " BroadcastingList2 BroadcastingList3 torch_jit_is_scripting _disable_dynamo".split()
)


@pytest.mark.filterwarnings("ignore")
def test_every_guarded_operation_is_guarded_under_each_of_its_names() -> None:
    """Also under names that the catalog takes in later, such as overloads of aten."""
    bases = {base_name(name) for name in catalog.GUARDED if name[6:7].islower()}
    open_names = [
        name
        for name in KIND_OF_NAME
        if name not in catalog.GUARDED
        and base_name(name) in bases
        and name not in KNOWN_TO_BE_SAFE
        and KIND_OF_NAME[name] == server_pb2.CATALOG_KIND_OPERATION
    ]
    assert open_names == []


KNOWN_TO_BE_SAFE = frozenset(
    # Dividing by `/` and `//` never truncates integers in a register of theirs.
    "torch.Tensor.__div__".split()
)


def base_name(name: str) -> str:
    """Returns what names of one operation share: `pad` of `aten.pad.default`."""
    parts = name.split(".")
    short = parts[1] if parts[0] == "aten" else parts[-1]
    return short.strip("_")


MAKERS: dict[str, list[Any]] = {
    "a tensor": [op("torch.ones", 2)],
    "a module": [op("torch.nn.Linear", 2, 2)],
    "an optimizer": [
        op("torch.nn.Linear", 2, 2),
        op("gradwire.getattr", result(0), "weight"),
        op("torch.optim.SGD", [result(1)]),
    ],
    "a scheduler": [
        op("torch.nn.Linear", 2, 2),
        op("gradwire.getattr", result(0), "weight"),
        op("torch.optim.SGD", [result(1)]),
        op("torch.optim.lr_scheduler.StepLR", result(2), 3),
    ],
    "a named tuple": [op("torch.ones", 2, 2), op("torch.max", result(0), 1)],
    "a context": [op("torch.no_grad")],
    "a function": [op("torch.optim.swa_utils.get_ema_avg_fn")],
    "a scaler": [op("torch.amp.GradScaler", "cpu")],
    "a generator": [op("torch.Generator")],
    "a random state": [op("gradwire.random_state")],
    "a description": [op("torch.ones", 2), op("gradwire.describe", result(0))],
    "a string": [op("torch.ones", 2), op("gradwire.repr", result(0))],
    "a dtype": [op("torch.ones", 2), op("torch.Tensor.dtype", result(0))],
}
PATHS = """
    __class__ __class__.__mro__ __dict__ __init__.__globals__ __reduce_ex__ _parameters
    forward forward.__globals__ register_forward_hook DESCRIPTOR DESCRIPTOR.file.pool step
    grad_fn grad_fn.metadata zero_grad optimizer.step.__func__ weight.data_ptr data.numpy
    data.storage H.__class__ real.apply_ T.__array__ format upper cpu fget func gi_frame
    type.mro to_real load_state_dict state_dict apply share_memory compile
""".split()


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("kind", MAKERS)
def test_no_attribute_leads_to_functions_classes_modules_or_globals(
    caller: Caller, kind: str
) -> None:
    made = MAKERS[kind]
    caller.run(*made, keep={len(made) - 1: 7})
    for path in PATHS:
        for operation in (
            op("gradwire.getattr", handle(7), path),
            op("gradwire.setattr", handle(7), path, 1),
        ):
            with pytest.raises(RefusedError) as caught:
                caller.run(operation)
            assert caught.value.reason == "OPERATION_FAILED", (path, caught.value.message)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("kind", MAKERS)
def test_only_modules_can_be_called_and_only_contexts_entered(caller: Caller, kind: str) -> None:
    made = MAKERS[kind]
    caller.run(*made, keep={len(made) - 1: 7})
    if kind != "a module":
        with pytest.raises(RefusedError, match="can't be called"):
            caller.run(op("gradwire.call", handle(7)))
    if kind != "a context":
        with pytest.raises(RefusedError, match="not a context manager"):
            caller.run(op("gradwire.enter", handle(7)))
    (printed,) = caller.run(op("gradwire.repr", handle(7)), fetch=[0])
    assert " at 0x" not in printed.string_value


def test_methods_and_classes_of_modules_cannot_be_replaced(caller: Caller) -> None:
    caller.run(op("torch.nn.Linear", 2, 2), keep={0: 7})
    for name in ("forward", "parameters", "train", "T_destination", "__class__", "_modules"):
        with pytest.raises(RefusedError):
            caller.run(op("gradwire.setattr", handle(7), name, handle(7)))
    with pytest.raises(RefusedError, match="true or false"):
        caller.run(op("gradwire.setattr", handle(7), "training", floats([1.0])))


def test_names_of_members_cannot_shadow_what_a_module_is_made_of(caller: Caller) -> None:
    for name in ("forward", "_modules", "_parameters", "__class__", "training", "_program", ""):
        module = spec("torch.nn.Module")
        child = module.children.add()
        child.name = name
        child.module.type = "torch.nn.ReLU"
        with pytest.raises(RefusedError):
            caller.create(module)
        module = spec("torch.nn.Module")
        tensor = module.tensors.add()
        tensor.name = name
        tensor.value.CopyFrom(floats([1.0]))
        with pytest.raises(RefusedError):
            caller.create(module)
    container = op("torch.nn.ModuleDict", {"forward": value(handle(7))})
    caller.run(op("torch.nn.ReLU"), keep={0: 7})
    with pytest.raises(RefusedError):
        caller.run(container)
