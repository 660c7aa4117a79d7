"""The catalog of names that may cross the wire: complete, harmless, and true to torch."""

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gradwire.v1 import catalog

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"

TABLES: dict[str, dict[str, str]] = {
    title: getattr(catalog, title)
    for title in (
        "FUNCTIONS",
        "METHODS",
        "PROPERTIES",
        "MODULES",
        "LOSSES",
        "OPTIMIZERS",
        "SCHEDULERS",
        "INITIALIZERS",
        "CONTEXTS",
        "CLASSES",
        "OBJECT_METHODS",
    )
}
NAMES = sorted(name for rows in TABLES.values() for name in rows)

# What no name may contain, whatever namespace it is in: files, processes, code, callables, memory,
# and the settings of the whole process.
FORBIDDEN = re.compile(
    r"""
    load(?!_state_dict$) | save | file | path$ | pickle | serializ | reduce_ex | __reduce | setstate
    | compile | \bjit | script | \bfx\b | export | trace(?!$) | onnx | \beval | exec | import
    | hook | apply | \bmap\d?_ | vmap | functional_call | \bcond_ | while_loop | fork(?!_rng$)
    | numpy | dlpack | buffer$ | storage$ | _storage\b | data_ptr | array | share_ | pin_memory
    | set_num | set_default | set_print | set_flush | determinis | backends | get_default
    | \bset_autocast | matmul_precision | thread | stream | \bipc | distributed | parallel
    | library | \bops\. | \bhub\b | cpp | multiprocessing | subclass | __class__ | __dict__
    | getattr
    | quantize_per | quantized | \bq_ | cudnn | miopen | mkldnn | fbgemm | \bsym_ | unsafe_untyped
    """,
    re.VERBOSE,
)

# Each was considered, and can reach a file, another process, code or memory that is not its own.
DANGEROUS = """
    torch.load torch.save torch.from_file torch.frombuffer torch.from_numpy torch.from_dlpack
    torch.compile torch.vmap torch.fork torch.import_ir_module torch.hub.load torch.jit.load
    torch.ops.load_library torch.classes.load_library torch.utils.cpp_extension.load
    torch.package.PackageImporter torch.serialization.load torch.Tensor.__class__
    torch.Tensor.__reduce_ex__ torch.Tensor.__setstate__ torch.Tensor.__deepcopy__
    torch.Tensor.apply_ torch.Tensor.map_ torch.Tensor.numpy torch.Tensor.data_ptr
    torch.Tensor.untyped_storage torch.Tensor.set_ torch.Tensor.new torch.Tensor.register_hook
    torch.Tensor.share_memory_ torch.Tensor.__init__ torch.Tensor.__format__ torch.Tensor
    torch.FloatTensor torch.UntypedStorage torch.set_default_device torch.set_num_threads
    torch.use_deterministic_algorithms torch.nn.DataParallel torch.nn.Module.load_state_dict
    torch.autograd.Function torch.autograd.graph.saved_tensors_hooks torch.segment_reduce
    torch.set_printoptions torch.distributed.init_process_group torch.cuda.Stream
    os.system builtins.eval torch.os torch.sys torch.ctypes aten.from_file
""".split()

# Where the cataloged functions and classes are defined.
HOMES = re.compile(
    r"torch(\.functional|\.random|\._lobpcg|\._lowrank|\._tensor|\.masked\._ops|\.sparse"
    r"|\._C(\._fft|\._linalg|\._nn|\._sparse|\._special)?|\.signal\.windows\.windows"
    r"|\.autograd(\.anomaly_mode|\.grad_mode)?|(\.cpu|\.cuda)?\.amp\.(autocast_mode|grad_scaler)"
    r"|\.nn\.(functional|init|parameter|modules\.\w+|utils\.(clip_grad|convert_parameters|rnn))"
    r"|\.optim(\.\w+)?)?"
)

OPERATORS = """
    abs add and bool complex contains eq float floordiv ge getitem gt iadd iand ifloordiv ilshift
    imod imul index int invert ior ipow irshift isub itruediv ixor le len lshift lt matmul mod mul
    ne neg or pos pow radd rand repr reversed rfloordiv rlshift rmatmul rmod rmul ror rpow rrshift
    rshift rsub rtruediv rxor setitem sub truediv xor
""".split()


def resolve(name: str) -> Any:
    """Returns the object of torch that a name stands for, by attributes alone."""
    first, *rest = name.split(".")
    assert first == "torch"
    parent: Any = functools.reduce(getattr, rest[:-1], torch)
    if isinstance(parent, type):
        return inspect.getattr_static(parent, rest[-1])
    return getattr(parent, rest[-1])


def public_members(namespace: str) -> Iterator[tuple[str, Any]]:
    """Yields full name and object of what a module of torch shows."""
    module = importlib.import_module(namespace)
    for short, member in vars(module).items():
        if not short.startswith("_"):
            yield f"{namespace}.{short}", member


def public_subclasses(namespace: str, base: type) -> list[str]:
    """Returns the names of the public subclasses of `base` in a module of torch."""
    return [
        name
        for name, member in public_members(namespace)
        if isinstance(member, type) and issubclass(member, base)
    ]


@pytest.fixture(scope="module")
def scripts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield


@pytest.fixture(scope="module")
def generator(scripts: None) -> types.ModuleType:
    return importlib.import_module("generate_catalog")


@pytest.fixture(scope="module")
def review(scripts: None) -> types.ModuleType:
    return importlib.import_module("catalog_review")


@pytest.fixture(scope="module")
def returns(scripts: None) -> types.ModuleType:
    return importlib.import_module("catalog_returns")


class TestTheGeneratedFile:
    def test_is_what_the_script_generates(self, generator: types.ModuleType) -> None:
        assert generator.main(["--check"]) == 0

    def test_differs_when_a_line_is_missing_and_the_script_says_which(
        self,
        generator: types.ModuleType,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        text = Path(catalog.__file__).read_text(encoding="utf-8")
        shortened = tmp_path / "catalog.py"
        shortened.write_text(text.replace('    "torch.relu": "tensor",\n', ""), encoding="utf-8")
        monkeypatch.setattr(generator, "CATALOG_PATH", shortened)
        assert generator.main(["--check"]) == 1
        assert '+ "torch.relu": "tensor",' in capsys.readouterr().out

    def test_imports_nothing(self) -> None:
        tree = ast.parse(Path(catalog.__file__).read_text(encoding="utf-8"))
        assert not [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]

    def test_is_made_from_the_torch_that_is_installed(self) -> None:
        assert torch.__version__.partition("+")[0] == catalog.TORCH_VERSION


class TestEveryName:
    def test_stands_in_one_table_only(self) -> None:
        assert len(NAMES) == len(set(NAMES))

    @pytest.mark.filterwarnings("ignore")
    def test_resolves_to_something_of_torch(self) -> None:
        for name in NAMES:
            target = resolve(name)
            assert callable(target) or hasattr(target, "__get__"), name
            home = getattr(target, "__module__", None)
            assert home is None or HOMES.fullmatch(home), f"{name} is defined in {home}"

    def test_is_public_or_an_operator(self) -> None:
        dunders = {f"__{operator}__" for operator in OPERATORS}
        for name in NAMES:
            parts = name.split(".")
            assert not any(part.startswith("_") for part in parts[:-1]), name
            assert not parts[-1].startswith("_") or parts[-1] in dunders, name

    def test_has_a_kind_that_the_client_knows(self) -> None:
        kinds = {"tensor", "none", "value", "overloaded", "variable"}
        silent = ("OPTIMIZERS", "SCHEDULERS", "CONTEXTS")
        with_objects = ("CLASSES", "OBJECT_METHODS")
        for title, rows in TABLES.items():
            allowed = kinds | {"object"} if title in with_objects else kinds
            assert set(rows.values()) <= ({""} if title in silent else allowed), title

    def test_of_a_method_that_works_in_place_returns_the_tensor(self) -> None:
        in_place = {n: k for n, k in catalog.METHODS.items() if re.search(r"[^_]_$", n)}
        assert set(in_place.values()) == {"tensor"}


class TestNothingDangerous:
    def test_has_a_name_with_a_forbidden_part(self) -> None:
        allowed = {
            "torch.Tensor.is_quantized",  # a question
            "torch.asarray",  # takes what the wire carries: numbers, lists and tensors
            "torch.fake_quantize_per_channel_affine",  # rounds; the result is a float tensor
            "torch.fake_quantize_per_tensor_affine",
        }
        found = [name for name in NAMES if FORBIDDEN.search(name.removeprefix("torch."))]
        assert set(found) == allowed

    @pytest.mark.parametrize("name", DANGEROUS)
    def test_is_in_the_catalog(self, name: str) -> None:
        assert name not in NAMES

    def test_that_was_refused_is_in_the_catalog(self, review: types.ModuleType) -> None:
        assert not review.REFUSED.keys() & set(NAMES)

    def test_is_refused_without_a_reason(self, review: types.ModuleType) -> None:
        assert all(len(reason) > 10 for reason in review.REFUSED.values())

    def test_is_guarded_that_is_not_in_the_catalog(self) -> None:
        known = {*NAMES, *catalog.ATEN}
        assert set(catalog.GUARDED) | catalog.UNINITIALIZED <= known


class TestAnOverloadOfAten:
    def test_is_one_of_torchs_own_operators(self) -> None:
        for name in catalog.ATEN:
            namespace, base, overload = name.split(".")
            assert namespace == "aten"
            assert isinstance(
                getattr(getattr(torch.ops.aten, base), overload), torch._ops.OpOverload
            )

    def test_takes_only_what_the_wire_carries(self) -> None:
        carried = re.compile(
            r"((List|Optional)\[)*(Tensor|int|float|bool|number|str|Device|Generator)\]*"
        )
        for name in catalog.ATEN:
            _, base, overload = name.split(".")
            schema = getattr(getattr(torch.ops.aten, base), overload)._schema
            for argument in schema.arguments:
                assert carried.fullmatch(str(argument.type)), f"{name}: {argument}"

    def test_is_refused_where_its_public_name_is(self, review: types.ModuleType) -> None:
        refused = {
            name.removeprefix("torch.").removeprefix("Tensor.").removeprefix("nn.functional.")
            for name in review.REFUSED
            if name not in ("torch.Tensor.index",)  # a method that exists for named tuples only
        }
        bases = {name.split(".")[1] for name in catalog.ATEN}
        assert not bases & refused
        allowed = {
            *("fake_quantize_per_channel_affine", "fake_quantize_per_tensor_affine"),
            *("sym_numel", "sym_size", "sym_storage_offset", "sym_stride"),  # plain numbers
            "numpy_T",  # a transposed view
        }
        assert {base for base in bases if FORBIDDEN.search(base)} == allowed

    def test_is_guarded_where_its_public_name_is(self) -> None:
        for public in catalog.GUARDED.keys() & catalog.FUNCTIONS.keys():
            base = public.removeprefix("torch.").replace("linalg.", "linalg_")
            overloads = {name for name in catalog.ATEN if name.split(".")[1] == base}
            assert overloads <= catalog.GUARDED.keys(), public

    def test_that_makes_tensors_of_nothing_is_known_as_a_factory(self) -> None:
        for name in catalog.ATEN:
            _, base, overload = name.split(".")
            schema = getattr(getattr(torch.ops.aten, base), overload)._schema
            takes_tensors = any("Tensor" in str(a.type) for a in schema.arguments)
            makes_tensors = any("Tensor" in str(r.type) for r in schema.returns)
            assert takes_tensors or not makes_tensors or name in catalog.FACTORIES, name


class TestTheCatalogIsCompleteFor:
    @pytest.mark.parametrize(
        ("namespace", "base", "titles"),
        [
            ("torch.nn", torch.nn.Module, ("MODULES", "LOSSES")),
            ("torch.optim", torch.optim.Optimizer, ("OPTIMIZERS",)),
            ("torch.optim.lr_scheduler", torch.optim.lr_scheduler.LRScheduler, ("SCHEDULERS",)),
        ],
    )
    def test_the_classes_of(
        self, review: types.ModuleType, namespace: str, base: type, titles: tuple[str, ...]
    ) -> None:
        known = {name for title in titles for name in TABLES[title]} | review.REFUSED.keys()
        assert not set(public_subclasses(namespace, base)) - known

    @pytest.mark.parametrize(
        "namespace",
        [
            "torch",
            "torch.nn.functional",
            "torch.linalg",
            "torch.fft",
            "torch.special",
            "torch.nn.utils",
        ],
    )
    def test_the_functions_of(self, review: types.ModuleType, namespace: str) -> None:
        functions = {
            name
            for name, member in public_members(namespace)
            if isinstance(member, (types.FunctionType, types.BuiltinFunctionType))
        }
        known = {*catalog.FUNCTIONS, *catalog.ARITHMETIC, *review.REFUSED}
        assert not functions - known

    def test_the_initializers(self) -> None:
        public = {
            name
            for name, member in public_members("torch.nn.init")
            if isinstance(member, types.FunctionType)
        }
        assert public == catalog.INITIALIZERS.keys()

    def test_the_public_members_of_a_tensor(self, review: types.ModuleType) -> None:
        members = {f"torch.Tensor.{short}" for short in dir(torch.Tensor) if short[0] != "_"}
        known = catalog.METHODS.keys() | catalog.PROPERTIES.keys() | review.REFUSED.keys()
        assert not members - known

    def test_what_torch_binds_to_a_default_device(self, review: types.ModuleType) -> None:
        constructors = importlib.import_module("torch.utils._device")._device_constructors()
        names = {f"torch.{function.__name__}" for function in constructors}
        names -= {"torch.fft_fftfreq", "torch.fft_rfftfreq", "torch.nested_tensor"}
        assert names <= catalog.FACTORIES | review.REFUSED.keys()
        assert {*catalog.FUNCTIONS, *catalog.ATEN} >= catalog.FACTORIES


class TestTheKindOfACall:
    @pytest.mark.parametrize(
        ("annotation", "kind"),
        [
            ("Tensor", "tensor"),
            ("torch.Tensor", "tensor"),
            ("None", "none"),
            ("_bool", "value"),
            ("tuple[_int, ...]", "value"),
            ("torch.return_types.max", "overloaded"),
            ("tuple[Tensor, Tensor | None]", "overloaded"),
            ("Tensor | None", "overloaded"),
            ("tuple[Tensor, ...]", "variable"),
            ("Sequence[Tensor]", "variable"),
            ("Any", None),
        ],
    )
    def test_follows_from_its_annotation(
        self, returns: types.ModuleType, annotation: str, kind: str | None
    ) -> None:
        assert returns.kind_of_annotation(annotation) == kind

    def test_follows_from_the_schemas_of_its_operator(self, returns: types.ModuleType) -> None:
        assert returns.kind_of_schemas("aten::linalg_det") == "tensor"
        assert returns.kind_of_schemas("aten::linalg_qr") == "overloaded"
        assert returns.kind_of_schemas("aten::unbind") == "variable"

    def test_with_several_overloads_depends_on_the_overload(
        self, returns: types.ModuleType
    ) -> None:
        assert returns.merge_kinds(["tensor", "overloaded"]) == "overloaded"
        assert returns.merge_kinds(["tensor", "variable"]) == "variable"
        assert returns.merge_kinds(["tensor", None]) is None

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    @pytest.mark.skipif(
        importlib.util.find_spec("expecttest") is None,
        reason="torch's test tables need expecttest",
    )
    def test_is_what_torchs_own_samples_return(
        self, generator: types.ModuleType, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert generator.main(["--validate"]) == 0, capsys.readouterr().out
