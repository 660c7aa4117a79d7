"""Metrics of a run: torchmetrics by name, and functions as programs."""

import difflib
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.programs import Program
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.errors import GradwireError, Reason, invalid

MAX_METRICS = 64
_PACKAGES = ("torchmetrics.classification", "torchmetrics.regression", "torchmetrics.text")
_BY_TASK = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1Score",
    "auroc": "AUROC",
    "average_precision": "AveragePrecision",
    "specificity": "Specificity",
}
"""Short names of metrics of classes, whose task follows from the data."""
_PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "mae": ("MeanAbsoluteError", {}),
    "mse": ("MeanSquaredError", {}),
    "rmse": ("MeanSquaredError", {"squared": False}),
    "r2": ("R2Score", {}),
    "perplexity": ("Perplexity", {}),
}
"""Short names of other metrics, with the arguments that they imply."""
LESS_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "perplexity")
"""Names of metrics with one of these in them are better when they are smaller."""


class Accumulator(Protocol):
    """A metric in the making."""

    def update(self, outputs: Sequence[Any], targets: Sequence[Any], num_samples: int) -> None:
        """Takes a batch in."""

    def compute(self) -> float:
        """Returns the value over all batches."""
        ...


@register
class ProgramMetric:
    """A metric that a program computes for each batch."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def begin(self) -> Accumulator:
        """Returns an empty accumulator."""
        return Mean(self._program.call)


class Mean:
    """The mean of a function over batches, weighted by samples."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._sum = 0.0
        self._num_samples = 0

    def update(self, outputs: Sequence[Any], targets: Sequence[Any], num_samples: int) -> None:
        """Takes a batch in."""
        self._sum += float(self._function(*outputs, *targets)) * num_samples
        self._num_samples += num_samples

    def compute(self) -> float:
        """Returns the value over all batches."""
        return self._sum / self._num_samples


@register
class NamedMetric:
    """A metric of torchmetrics."""

    def __init__(self, name: str, kwargs: dict[str, Any]) -> None:
        self._name = name
        self._kwargs = kwargs

    def begin(self) -> Accumulator:
        """Returns an empty accumulator."""
        return _TorchMetric(self._name, self._kwargs)


class _TorchMetric:
    def __init__(self, name: str, kwargs: dict[str, Any]) -> None:
        self._name = name
        self._kwargs = kwargs
        self._metric: Any = None

    def update(self, outputs: Sequence[Any], targets: Sequence[Any], num_samples: int) -> None:
        del num_samples
        output, target = outputs[0].detach(), targets[0]
        with operation(self._name):
            task = {}
            output = _with_classes_in_place(self._name, output, target)
            if self._name in _BY_TASK:
                task = _task(output, target)
                target = target.long()
            if output.shape == target.shape and output.dim() == 2 and output.shape[1] == 1:
                output, target = output[:, 0], target[:, 0]
            elif output.dim() == 2 and output.shape[1] == 1 and target.dim() == 1:
                output = output[:, 0]
            if self._metric is None:
                self._metric = _make(self._name, {**task, **self._kwargs}).to(output.device)
            self._metric.update(output.float() if output.is_floating_point() else output, target)

    def compute(self) -> float:
        with operation(self._name):
            value = self._metric.compute()
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise TypeError(f"{self._name} has more than one value; only numbers are reported")
            return float(value)


def build_metrics(
    session: Session, specs: Sequence[runs_pb2.Metric], path: str
) -> "dict[str, ProgramMetric | NamedMetric]":
    """Returns the metrics of their descriptions, by name.

    Raises:
        GradwireError: A name is unknown, missing or there twice, or a program is malformed.
    """
    if len(specs) > MAX_METRICS:
        raise invalid(path, f"has {len(specs)} metrics; {MAX_METRICS} at most")
    metrics: dict[str, ProgramMetric | NamedMetric] = {}
    for index, spec in enumerate(specs):
        where = f"{path}[{index}]"
        if not spec.name or spec.name in metrics or spec.name in {"loss", "validation_loss"}:
            raise invalid(f"{where}.name", f"{spec.name!r} is empty, taken, or there twice")
        match spec.WhichOneof("kind"):
            case "program":
                metrics[spec.name] = ProgramMetric(
                    session.program(spec.program, f"{where}.program")
                )
            case "torchmetric":
                metrics[spec.name] = _named(session, spec.torchmetric, f"{where}.torchmetric")
            case _:
                raise invalid(where, "has no kind set; give a metric of torchmetrics or a program")
    return metrics


def _named(session: Session, spec: runs_pb2.TorchMetric, path: str) -> NamedMetric:
    kwargs = session.decode_map(spec.kwargs, f"{path}.kwargs")
    name = spec.type.removeprefix("torchmetrics.").rpartition(".")[2]
    known = _known()
    if name not in _BY_TASK and name not in _PLAIN and name not in known:
        everything = [*_BY_TASK, *_PLAIN, *known]
        close = difflib.get_close_matches(name, everything, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise invalid(
            f"{path}.type",
            f"{spec.type!r} is no metric{hint} There are {', '.join([*_BY_TASK, *_PLAIN])}, the "
            "classes of torchmetrics.classification and torchmetrics.regression, and functions",
            reason=Reason.UNKNOWN_NAME,
        )
    # Those of classes are made for certain when the outputs are known.
    assumed = {"task": "multiclass", "num_classes": 100, "num_labels": 100}
    try:
        with operation(name):
            _make(name, {**assumed, **kwargs} if name in _BY_TASK else kwargs)
    except GradwireError as error:
        message = f"{path}.kwargs: {name} of torchmetrics refuses its arguments: {error.message}"
        raise GradwireError(error.reason, message, metadata=error.metadata) from error
    return NamedMetric(name, kwargs)


def _known() -> dict[str, Callable[..., Any]]:
    """Returns the classes of torchmetrics by name."""
    if not _classes:
        # Importing torchmetrics takes a second, which only runs that use it should wait for.
        base = importlib.import_module("torchmetrics").Metric
        for package in _PACKAGES:
            module = importlib.import_module(package)
            for name in module.__all__:
                kind = getattr(module, name)
                if isinstance(kind, type) and issubclass(kind, base):
                    _classes.setdefault(name, kind)
    return _classes


_classes: dict[str, Callable[..., Any]] = {}


def _make(name: str, kwargs: dict[str, Any]) -> Any:
    if name in _BY_TASK:
        return _known()[_BY_TASK[name]](**kwargs)
    if name in _PLAIN:
        kind, implied = _PLAIN[name]
        return _known()[kind](**{**implied, **kwargs})
    return _known()[name](**kwargs)


def _with_classes_in_place(name: str, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns outputs of shape (N, C, ...) or (N, ..., C), for targets (N, ...), as a metric wants.

    Those of torchmetrics want the classes second, as torch's losses do, but perplexity wants them
    last, as language models have them.
    """
    if output.dim() != target.dim() + 1 or output.dim() < 3:
        return output
    second = output.shape[0] == target.shape[0] and output.shape[2:] == target.shape[1:]
    last = output.shape[:-1] == target.shape
    if name.lower() == "perplexity":
        return output.movedim(1, -1) if second and not last else output
    return output.movedim(-1, 1) if last and not second else output


def _task(output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
    """Returns what kind of classes outputs and targets are of, as torchmetrics calls it."""
    if output.dim() == target.dim() + 1 and output.shape[1] > 1:
        return {"task": "multiclass", "num_classes": output.shape[1]}
    if output.dim() == target.dim() == 2 and output.shape[1] > 1:
        return {"task": "multilabel", "num_labels": output.shape[1]}
    return {"task": "binary"}
