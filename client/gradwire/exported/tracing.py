"""How torch is set up while `torch.export` runs."""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradwire.errors import CaptureError
from gradwire.exported.lowering import OWN_NAMESPACE

_symbolic_shapes: Any = importlib.import_module("torch.fx.experimental._config")

_library = torch.library.Library(OWN_NAMESPACE, "DEF")
_RECURRENT: dict[Any, Any] = {}
"""Functions of torch that export would unroll over time, and what stands for each."""


def _define_recurrent(name: str, num_states: int) -> None:
    state = "Tensor[] hx" if num_states == 2 else "Tensor hx"
    results = ", ".join(["Tensor"] * (1 + num_states))
    _library.define(
        f"{name}(Tensor input, {state}, Tensor[] params, bool has_biases, int num_layers, "
        f"float dropout, bool train, bool bidirectional, bool batch_first) -> ({results})"
    )

    def on_meta(sequence: torch.Tensor, hx: Any, *rest: Any) -> tuple[torch.Tensor, ...]:
        states = list(hx) if num_states == 2 else [hx]
        bidirectional = rest[-2]
        features = states[0].shape[-1] * (2 if bidirectional else 1)
        output = sequence.new_empty((*sequence.shape[:-1], features))
        return (output, *(torch.empty_like(state) for state in states))

    _library.impl(name, on_meta, "Meta")
    _RECURRENT[getattr(torch, name)] = getattr(getattr(torch.ops, OWN_NAMESPACE), name)


for _name, _num_states in (("lstm", 2), ("gru", 1), ("rnn_tanh", 1), ("rnn_relu", 1)):
    _define_recurrent(_name, _num_states)


class _KeepRecurrent(TorchFunctionMode):
    """Keeps a recurrent layer one operation, so that its graph holds for any length."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kept = _RECURRENT.get(func)
        # Packed sequences have the sizes of batches as a tensor in second place.
        if kept is not None and len(args) == 9 and not isinstance(args[3], torch.Tensor):
            return kept(*args)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what torch says about its own tracing from the user's terminal."""
    loggers = [
        logging.getLogger(name)
        for name in list(logging.root.manager.loggerDict)
        if name.split(".")[0] == "torch"
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def exporting(name: str) -> Iterator[None]:
    """Sets up torch for an export: sizes of 1 are like others, and nothing is traced past."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    apply = torch.autograd.Function.__dict__["apply"]
    torch.backends.mha.set_fastpath_enabled(False)
    torch.autograd.Function.apply = classmethod(_refuse(name))  # type: ignore[assignment]
    try:
        with (
            _symbolic_shapes.patch(backed_size_oblivious=True),
            torch.enable_grad(),
            _KeepRecurrent(),
        ):
            yield
    finally:
        torch.autograd.Function.apply = apply  # type: ignore[method-assign]
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _refuse(name: str) -> Callable[..., Any]:
    """Returns what takes the place of `torch.autograd.Function.apply`.

    Export would trace the forward of such a function and lose its own backward without a word.
    """

    def apply(cls: type, *args: Any, **_: Any) -> Any:
        if cls.__name__ == "CheckpointFunction":
            # Recomputes to save memory, and changes no value.
            run_function, _preserve, *inputs = args
            return run_function(*inputs)
        raise CaptureError(
            f"{name} uses the torch.autograd.Function {cls.__name__}, whose own backward can't be "
            "captured. Write it with operations of torch, such as "
            "x + (f(x) - x).detach() for a straight-through estimate of f."
        )

    return apply
