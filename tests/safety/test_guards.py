"""Calls that would end the worker, or stop it, if torch got them."""

import pytest

from gradwire.v1 import catalog
from gradwire_server.engine import guards
from tests.safety.caller import Caller, RefusedError, floats, handle, integers, op, result, spec

LEAST = -(2**63)
MATRIX = floats([1.0, 2.0, 3.0, 4.0], [2, 2])
LOG_PROBS = floats([-1.0] * 12, [4, 1, 3])
LENGTHS = (integers([4]), integers([2]))
GRID = floats([9.0] * 2, [1, 1, 1, 2])
PADDING = [2**63 - 1] * 4
STATES = [floats([0.0] * 3, [1, 3]), floats([0.0] * 3, [1, 3])]
WEIGHTS = [floats([]), floats([0.0] * 36, [12, 3]), floats([0.0] * 12), floats([0.0] * 12)]

WILD: dict[str, list[object]] = {
    "torch.ctc_loss": [LOG_PROBS, integers([1, 5], [1, 2]), *LENGTHS],
    "torch.nn.functional.ctc_loss": [LOG_PROBS, integers([-1, 1], [1, 2]), *LENGTHS],
    "torch.lstm": [floats([0.0] * 8, [4, 2]), STATES, WEIGHTS, True, 1, 0.0, False, False, False],
    "torch.linalg.eigvals": [floats([float("nan")] * 9, [3, 3])],
    "torch.lu_unpack": [floats([1.0] * 12, [2, 2, 3]), integers([1, 1])],
    "torch.nn.functional.pad": [floats([1.0] * 12, [1, 3, 4]), PADDING, "replicate"],
    "torch.nn.ParameterDict": [{"_parameters": floats([1.0])}],
    "torch.random.fork_rng": [[], True, "x", "os"],
    "torch.matrix_power": [MATRIX, LEAST],
    "torch.linalg.matrix_power": [MATRIX, LEAST],
    "torch.Tensor.matrix_power": [MATRIX, LEAST],
    "torch.grid_sampler": [floats([1.0] * 4, [1, 1, 2, 2]), GRID, 0, 7, False],
    "torch.grid_sampler_2d": [floats([1.0] * 4, [1, 1, 2, 2]), GRID, 0, -1, False],
    "torch.grid_sampler_3d": [floats([1.0] * 4, [1, 1, 1, 2, 2]), GRID, 3, 0, False],
    "torch.linalg.ldl_solve": [MATRIX, integers([1, -1]), MATRIX],
    "torch.native_batch_norm": [MATRIX, None, None, floats([0.0]), None, True, 0.1, 1e-5],
}
DIVISIONS = [name for name in catalog.GUARDED if "div" in name and name.startswith("torch.")]
ATEN = [name for name in catalog.GUARDED if name.startswith("aten.")]
WILD_ATEN: dict[str, tuple[str, list[object]]] = {
    "aten.ctc_loss.Tensor": ("torch.ctc_loss", [0, "mean", False]),
    "aten.lstm.input": ("torch.lstm", []),
    "aten.linalg_eigvals.default": ("torch.linalg.eigvals", []),
    "aten.matrix_power.default": ("torch.matrix_power", []),
    "aten.linalg_matrix_power.default": ("torch.matrix_power", []),
    "aten.lu_unpack.default": ("torch.lu_unpack", []),
    "aten.pad.default": ("torch.nn.functional.pad", []),
}
SPARSE = [name for name in catalog.GUARDED if name.startswith("torch.sparse_")]
INDICES = [name for name in catalog.GUARDED if name.endswith("indices")]
MODULES = {
    "torch.nn.CTCLoss",
    "torch.nn.LSTM",
    "torch.nn.ReplicationPad1d",
    "torch.nn.ReplicationPad2d",
    "torch.nn.ReplicationPad3d",
}
PACKED = {"torch.nn.utils.rnn.pad_packed_sequence", "torch.nn.utils.rnn.unpack_sequence"}

pytestmark = pytest.mark.usefixtures("unharmed")


def refused(caller: Caller, *operations: object) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        caller.run(*operations)  # type: ignore[arg-type]
    assert caught.value.reason == "OPERATION_FAILED", caught.value.message
    return caught.value


def test_every_guarded_name_has_its_check_and_a_case_here() -> None:
    cases = {*WILD, *DIVISIONS, *SPARSE, *INDICES, *MODULES, *PACKED, *ATEN}
    assert set(guards._WRAPPERS) <= set(catalog.GUARDED) == cases
    assert [name for name in catalog.GUARDED if guards.guard_of(name) is None] == []


@pytest.mark.parametrize("name", WILD)
def test_wild_arguments_are_refused(caller: Caller, name: str) -> None:
    refused(caller, op(name, *WILD[name]))


@pytest.mark.parametrize("name", WILD_ATEN)
def test_overloads_of_aten_have_the_checks_of_their_functions(caller: Caller, name: str) -> None:
    of, more = WILD_ATEN[name]
    refused(caller, op(name, *WILD[of], *more))


@pytest.mark.parametrize("name", DIVISIONS)
def test_the_least_integer_is_not_divided_by_minus_one(caller: Caller, name: str) -> None:
    refused(caller, op(name, integers([LEAST]), integers([-1]), rounding_mode="trunc"))
    (quotient,) = caller.run(
        op(name, integers([7]), integers([-1]), rounding_mode="trunc"),
        op("torch.Tensor.item", result(0)),
        fetch=[1],
    )
    assert quotient.int_value == -7


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_tensors_are_checked_whatever_the_caller_says(caller: Caller, name: str) -> None:
    arguments: list[object] = [integers([0, 9]), integers([0]), floats([1.0]), [1, 2]]
    if name == "torch.sparse_coo_tensor":
        arguments = [integers([0, 9], [2, 1]), floats([1.0]), [1, 2]]
    for wish in ({}, {"check_invariants": False}):
        refused(caller, op(name, *arguments, **wish))


@pytest.mark.parametrize("name", INDICES)
def test_indices_of_a_sparse_tensor_cannot_be_written_to(caller: Caller, name: str) -> None:
    row = "crow" in name or (name.endswith("col_indices") and "ccol" not in name)
    convert = "coo" if name.endswith(".indices") else "csr" if row else "csc"
    written, dense = caller.run(
        op(f"torch.Tensor.to_sparse_{convert}", MATRIX),
        op("torch.Tensor.coalesce" if convert == "coo" else "torch.Tensor.detach", result(0)),
        op(name, result(1)),
        op("torch.Tensor.fill_", result(2), 10**6),
        op("torch.Tensor.to_dense", result(1)),
        fetch=[3, 4],
    )
    assert written.tensor.shape
    assert dense.tensor.data == MATRIX.tensor.data


@pytest.mark.parametrize("name", sorted(PACKED))
def test_batch_sizes_of_a_packed_sequence_are_held_against_its_data(
    caller: Caller, name: str
) -> None:
    for sizes in ([3, -1, 1], [2, 1, -5], [1, 2], [3, 3], []):
        packed = op("torch.nn.utils.rnn.PackedSequence", floats([0.0] * 6, [3, 2]), integers(sizes))
        refused(caller, packed, op(name, result(0)))


def test_a_loss_of_ctc_checks_its_targets(caller: Caller) -> None:
    call = op("gradwire.call", result(0), LOG_PROBS, integers([2**40, 1], [1, 2]), *LENGTHS)
    assert "classes go from 0 to 2" in refused(caller, op("torch.nn.CTCLoss"), call).message


def test_an_lstm_checks_its_weights_when_it_runs(caller: Caller) -> None:
    (output,) = caller.run(
        op("torch.nn.LSTM", 2, 3),
        op("gradwire.call", result(0), floats([0.0] * 8, [4, 2])),
        op("gradwire.getitem", result(1), 0),
        fetch=[2],
        keep={0: 7},
    )
    assert list(output.tensor.shape) == [4, 3]
    for path in ("weight_ih_l0", "weight_hh_l0"):
        weight = op("gradwire.getattr", handle(7), path)
        call = op("gradwire.call", handle(7), floats([0.0] * 8, [4, 2]))
        refused(
            caller,
            op("torch.no_grad"),
            op("gradwire.enter", result(0)),
            weight,
            op("gradwire.setattr", result(2), "data", floats([])),
            call,
        )


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_does_not_overflow(caller: Caller, dims: int) -> None:
    model = caller.create(spec(f"torch.nn.ReplicationPad{dims}d", 2**63 - 1))
    with pytest.raises(RefusedError, match="too much padding"):
        caller.forward(model.name, floats([0.0] * 4**dims, [1, 1] + [4] * dims))


@pytest.mark.parametrize("name", sorted(catalog.UNINITIALIZED))
def test_memory_of_others_is_never_shown(caller: Caller, name: str) -> None:
    arguments: dict[str, list[object]] = {
        "empty": [[4096]],
        "empty_like": [floats([1.0] * 4096)],
        "empty_strided": [[4096], [1]],
        "empty_permuted": [[64, 64], [1, 0]],
        "new_empty_strided": [floats([1.0]), [4096], [1]],
        "new_empty": [floats([1.0]), [4096]],
    }
    parts = name.split(".")
    given = arguments[parts[1] if parts[0] == "aten" else parts[-1]]
    keywords = {"out": result(0)} if parts[-1] == "out" else {}
    dirty = [op("torch.full", [4096], 7.0) for _ in range(8)]
    clean = op(name, *given, **keywords)
    (shown,) = caller.run(*dirty, clean, fetch=[8])
    assert not any(shown.tensor.data)
