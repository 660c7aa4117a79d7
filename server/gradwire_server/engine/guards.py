"""Checks that torch does not make, of calls that would hurt the process.

`catalog.GUARDED` lists the names and why; each has its check here. Torch indexes memory with what
these arguments say, or divides, or loops, and a worker process would end or stand still.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard

import torch

from gradwire.v1 import catalog

Call = Callable[..., Any]
Wrapper = Callable[..., Any]
"""Takes the function that it guards, and then the function's own arguments."""

MAX_PADDING = 1 << 40
"""More elements than memory has, and few enough for sums that do not overflow."""

_NUMERIC = frozenset(
    name for name in catalog.MODULES | catalog.LOSSES if not name.startswith("torch.nn.ConstantPad")
)
"""Modules whose constructors have no use for NaN."""

_UNSUITED = "torch does not check it, and the process would suffer"


def guarded(name: str, function: Call) -> Call:
    """Returns what to call for a name of the catalog: its function, with checks if it needs any."""
    wrapper = guard_of(name)
    if wrapper is not None:
        return partial(wrapper, function)
    if name in catalog.UNINITIALIZED:
        return partial(_zeroed, function)
    return function


def guard_of(name: str) -> Wrapper | None:
    """Returns the check of a name; overloads of ATen have that of the operation they are of."""
    if name.startswith("aten."):
        return _ATEN_WRAPPERS.get(name.split(".")[1].rstrip("_"))
    if name in catalog.OPTIMIZERS or name in catalog.SCHEDULERS:
        return _finite_options
    if name in _NUMERIC and name not in _WRAPPERS:
        return _no_nan
    return _WRAPPERS.get(name)


def _finite_options(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    """Refuses what training would silently make NaN of."""
    for name, value in _floats([args, kwargs]):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be a finite number")
    return call(*args, **kwargs)


def _no_nan(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    """Refuses NaN; bounds may well be infinite."""
    for name, value in _floats([args, kwargs]):
        if math.isnan(value):
            raise ValueError(f"{name} is nan; it must be a number")
    return call(*args, **kwargs)


def _floats(value: Any, name: str = "an argument") -> Iterator[tuple[str, float]]:
    """Yields the floats in a value and in lists and dicts of it, each with its name."""
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, dict):
        for key, element in value.items():
            yield from _floats(element, str(key))
    elif isinstance(value, list | tuple):
        for element in value:
            yield from _floats(element, name)


def _zeroed(call: Call, /, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Overwrites what the memory held before, perhaps for another session."""
    result: torch.Tensor = call(*args, **kwargs)
    with torch.no_grad():
        return result.zero_()


def _ctc_loss(
    call: Call, /, log_probs: torch.Tensor, targets: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    _require_classes(log_probs, targets)
    return call(log_probs, targets, *args, **kwargs)


def _ctc_loss_module(call: Call, /, *args: Any, **kwargs: Any) -> torch.nn.Module:
    module: torch.nn.Module = call(*args, **kwargs)
    module.register_forward_pre_hook(_before_ctc_loss, with_kwargs=True)
    return module


def _before_ctc_loss(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    given = dict(zip(("log_probs", "targets"), args, strict=False)) | kwargs
    _require_classes(given.get("log_probs"), given.get("targets"))


def _require_classes(log_probs: Any, targets: Any) -> None:
    if not (_is_dense(log_probs) and _is_dense(targets)) or not targets.numel():
        return
    least, most = (int(bound) for bound in targets.aminmax())
    num_classes = log_probs.size(-1) if log_probs.dim() else 0
    if least < 0 or most >= num_classes:
        raise ValueError(
            f"targets go from {least} to {most}; classes go from 0 to {num_classes - 1}, the size "
            "of the last dimension of log_probs less one"
        )


def _divide(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("rounding_mode") == "trunc":
        given = dict(zip(("input", "other"), args, strict=False)) | kwargs
        dividend, divisor = given.get("input", given.get("self")), given.get("other")
        if _holds_least_integer(dividend) and _holds_minus_one(divisor):
            raise ValueError(
                "the least integer of a dtype divided by -1 has no value in that dtype; convert "
                "to a floating point dtype first, or leave rounding_mode out"
            )
    return call(*args, **kwargs)


def _holds_least_integer(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return _is_integral(value) and bool((value == torch.iinfo(value.dtype).min).any())
    return isinstance(value, int)


def _holds_minus_one(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return _is_integral(value) and bool((value == -1).any())
    return isinstance(value, int) and value == -1


def _matrix_power(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    n = kwargs.get("n", args[1] if len(args) > 1 else None)
    if isinstance(n, int) and n <= torch.iinfo(torch.int64).min:
        raise ValueError(f"n is {n}; it must be greater, or the call would never end")
    return call(*args, **kwargs)


def _finite(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    matrix = args[0] if args else kwargs.get("A", kwargs.get("input", kwargs.get("self")))
    if _is_dense(matrix) and not bool(matrix.isfinite().all()):
        raise ValueError("the matrix has infinite elements or NaN; eigenvalues need finite ones")
    return call(*args, **kwargs)


def _lu_unpack(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    given = dict(zip(("LU_data", "LU_pivots"), args, strict=False)) | kwargs
    factors, pivots = given.get("LU_data"), given.get("LU_pivots")
    if _is_dense(pivots) and _is_dense(factors) and factors.dim() > 1:
        expected = (*factors.shape[:-2], min(factors.shape[-2:]))
        if tuple(pivots.shape) != expected:
            raise ValueError(
                f"LU_pivots has shape {list(pivots.shape)}; LU_data asks for {list(expected)}"
            )
    return call(*args, **kwargs)


def _grid_sampler(call: Call, /, *args: Any, **kwargs: Any) -> torch.Tensor:
    names = ("input", "grid", "interpolation_mode", "padding_mode")
    given = dict(zip(names, args, strict=False)) | kwargs
    for name in names[2:]:
        if given.get(name) not in (0, 1, 2):
            raise ValueError(f"{name} must be 0, 1 or 2, not {given.get(name)!r}")
    result: torch.Tensor = call(*args, **kwargs)
    return result


def _ldl_solve(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    given = dict(zip(("LD", "pivots", "B"), args, strict=False)) | kwargs
    pivots = given.get("pivots")
    if not _is_dense(pivots):
        raise ValueError("pivots must be a dense tensor")
    num_rows = pivots.size(-1) if pivots.dim() else 0
    for row in pivots.reshape(-1, num_rows).tolist() if pivots.numel() else []:
        remaining = iter(row)
        for pivot in remaining:
            if not 1 <= abs(pivot) <= num_rows or (pivot < 0 and next(remaining, None) != pivot):
                raise ValueError(
                    f"pivots {row} are not what ldl_factor returns: numbers of rows from 1 to "
                    f"{num_rows}, and negative ones in equal pairs"
                )
    # What was checked must not change before the backward pass.
    given["pivots"] = pivots.clone()
    return call(**given)


def _native_batch_norm(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    names = ("input", "weight", "bias", "running_mean", "running_var")
    given = dict(zip(names, args, strict=False)) | kwargs
    features = given.get("input")
    channels = [features.size(1)] if _is_dense(features) and features.dim() > 1 else []
    for name in names[1:]:
        value = given.get(name)
        if value is not None and not (_is_dense(value) and list(value.shape) == channels):
            raise ValueError(f"{name} must be dense and of shape {channels}, as input's channels")
    return call(*args, **kwargs)


def _sparse(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    if "is_coalesced" in kwargs:
        raise ValueError(f"is_coalesced can't be given: {_UNSUITED}; call coalesce()")
    if kwargs.get("check_invariants") not in (None, True):
        raise ValueError("check_invariants can't be false; indices are always checked")
    # What was checked must not change afterwards.
    copied = {name: _copied_if_tensor(value) for name, value in kwargs.items()}
    return call(*map(_copied_if_tensor, args), **{**copied, "check_invariants": True})


def _copied_if_tensor(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _copied(call: Call, /, *args: Any, **kwargs: Any) -> torch.Tensor:
    result: torch.Tensor = call(*args, **kwargs)
    return result.clone()


def _packed(call: Call, /, sequence: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(sequence, torch.nn.utils.rnn.PackedSequence):
        _require_batch_sizes(sequence.data, sequence.batch_sizes)
    return call(sequence, *args, **kwargs)


def _require_batch_sizes(data: Any, batch_sizes: Any) -> None:
    if not (_is_dense(data) and _is_dense(batch_sizes)) or batch_sizes.dim() != 1:
        raise ValueError("a packed sequence has data and a 1-D tensor of batch sizes")
    sizes = batch_sizes.tolist()
    num_steps = data.size(0) if data.dim() else 0
    falls = all(later <= earlier for earlier, later in itertools.pairwise(sizes))
    if not sizes or not falls or sizes[-1] < 1 or sum(sizes) != num_steps:
        raise ValueError(
            f"batch sizes must be positive, must not increase, and must add up to the {num_steps} "
            "steps of the data"
        )


def _lstm(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    packed = (len(args) > 1 and isinstance(args[1], torch.Tensor)) or "batch_sizes" in kwargs
    names = ("data", "batch_sizes", *_LSTM_NAMES) if packed else ("input", *_LSTM_NAMES)
    given = dict(zip(names, args, strict=False)) | kwargs
    data = given.get("data" if packed else "input")
    if packed:
        _require_batch_sizes(data, given.get("batch_sizes"))
    states: Sequence[Any] = given.get("hx") or ()
    weights: Sequence[Any] = given.get("params") or ()
    if not (_is_dense(data) and len(states) == 2 and all(map(_is_dense, (*states, *weights)))):
        raise ValueError("lstm takes a tensor, two states and a list of weights, all dense")
    shapes = _lstm_shapes(
        input_size=data.size(-1) if data.dim() else 0,
        hidden_size=states[1].size(-1) if states[1].dim() else 0,
        output_size=states[0].size(-1) if states[0].dim() else 0,
        num_layers=min(int(given.get("num_layers", 1)), len(weights)),
        num_directions=2 if given.get("bidirectional") else 1,
        has_biases=bool(given.get("has_biases", True)),
    )
    _require_shapes(weights, list(shapes))
    return call(*args, **kwargs)


_LSTM_NAMES = "hx params has_biases num_layers dropout train bidirectional batch_first".split()


def _lstm_module(call: Call, /, *args: Any, **kwargs: Any) -> torch.nn.Module:
    module: torch.nn.Module = call(*args, **kwargs)
    module.register_forward_pre_hook(_before_lstm)
    return module


def _before_lstm(module: Any, args: tuple[Any, ...]) -> None:
    """Checks the weights, which may have been replaced since the module was made."""
    if args and isinstance(args[0], torch.nn.utils.rnn.PackedSequence):
        _require_batch_sizes(args[0].data, args[0].batch_sizes)
    shapes = _lstm_shapes(
        input_size=module.input_size,
        hidden_size=module.hidden_size,
        output_size=module.proj_size or module.hidden_size,
        num_layers=module.num_layers,
        num_directions=2 if module.bidirectional else 1,
        has_biases=bool(module.bias),
    )
    _require_shapes(module._flat_weights, list(shapes))


def _lstm_shapes(
    *,
    input_size: int,
    hidden_size: int,
    output_size: int,
    num_layers: int,
    num_directions: int,
    has_biases: bool,
) -> Iterator[tuple[int, ...]]:
    """Yields the shape of each weight in the order of `torch.nn.LSTM`'s documentation."""
    gates = 4 * hidden_size
    for layer in range(num_layers):
        width = input_size if layer == 0 else output_size * num_directions
        for _ in range(num_directions):
            yield gates, width
            yield gates, output_size
            if has_biases:
                yield (gates,)
                yield (gates,)
            if output_size != hidden_size:
                yield output_size, hidden_size


def _require_shapes(weights: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> None:
    found = [tuple(weight.shape) for weight in weights]
    if found != list(shapes):
        raise ValueError(
            f"the weights have the shapes {found}, but the sizes of the input and the states ask "
            f"for {list(shapes)}"
        )


def _pad(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    given = dict(zip(("input", "pad"), args, strict=False)) | kwargs
    _require_padding(given.get("pad"))
    return call(*args, **kwargs)


def _padding_module(call: Call, /, *args: Any, **kwargs: Any) -> torch.nn.Module:
    module: torch.nn.Module = call(*args, **kwargs)
    module.register_forward_pre_hook(_before_padding)
    return module


def _before_padding(module: torch.nn.Module, _: tuple[Any, ...]) -> None:
    _require_padding(module.padding)


def _require_padding(padding: Any) -> None:
    for size in padding if isinstance(padding, list | tuple) else [padding]:
        if isinstance(size, int) and abs(size) > MAX_PADDING:
            raise ValueError(f"{size} is too much padding; {MAX_PADDING} is the most")


def _fork_rng(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    if args or kwargs.keys() - {"enabled"}:
        raise ValueError("fork_rng takes only `enabled`; it forks the generators of the session")
    return call(devices=(), **kwargs)


def _parameter_dict(call: Call, /, *args: Any, **kwargs: Any) -> Any:
    for given in (*args, *kwargs.values()):
        names = given if isinstance(given, Mapping) else [pair[0] for pair in given or ()]
        for name in names:
            if not isinstance(name, str) or not name or name.startswith("_"):
                raise ValueError(f"{name!r} can't be the key of a parameter; give a name")
            if hasattr(torch.nn.ParameterDict, name):
                raise ValueError(f"{name!r} is an attribute of ParameterDict; take another key")
    return call(*args, **kwargs)


def _is_dense(value: Any) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta


def _is_integral(tensor: torch.Tensor) -> bool:
    dtype = tensor.dtype
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def _table(rows: Mapping[Wrapper, str]) -> dict[str, Wrapper]:
    return {f"torch.{name}": wrapper for wrapper, names in rows.items() for name in names.split()}


_WRAPPERS: dict[str, Wrapper] = _table(
    {
        _ctc_loss: "ctc_loss nn.functional.ctc_loss",
        _ctc_loss_module: "nn.CTCLoss",
        _lstm: "lstm",
        _lstm_module: "nn.LSTM",
        _divide: "div divide Tensor.div Tensor.div_ Tensor.divide Tensor.divide_",
        _matrix_power: "matrix_power linalg.matrix_power Tensor.matrix_power",
        _finite: "linalg.eigvals",
        _lu_unpack: "lu_unpack",
        _grid_sampler: "grid_sampler grid_sampler_2d grid_sampler_3d",
        _ldl_solve: "linalg.ldl_solve",
        _native_batch_norm: "native_batch_norm",
        _sparse: """
            sparse_bsc_tensor sparse_bsr_tensor sparse_compressed_tensor sparse_coo_tensor
            sparse_csc_tensor sparse_csr_tensor
        """,
        _copied: """
            Tensor.ccol_indices Tensor.col_indices Tensor.crow_indices Tensor.indices
            Tensor.row_indices
        """,
        _pad: "nn.functional.pad",
        _padding_module: "nn.ReplicationPad1d nn.ReplicationPad2d nn.ReplicationPad3d",
        _packed: "nn.utils.rnn.pad_packed_sequence nn.utils.rnn.unpack_sequence",
        _fork_rng: "random.fork_rng",
        _parameter_dict: "nn.ParameterDict",
    }
)
"""Each name of `catalog.GUARDED` and what is called in its place."""

_ATEN_WRAPPERS: dict[str, Wrapper] = {
    name.removeprefix("torch.").removeprefix("nn.functional.").replace(".", "_"): wrapper
    for name, wrapper in _WRAPPERS.items()
    if name in catalog.FUNCTIONS
}
"""The same by the names of operations in ATen, whose arguments are those of the functions."""
