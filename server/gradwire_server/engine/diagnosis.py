"""What is wrong with a batch, in words, for errors and warnings of a run."""

from collections.abc import Sequence

import torch

from gradwire_server.errors import GradwireError, Reason


def located(
    error: GradwireError,
    where: str,
    inputs: Sequence[torch.Tensor],
    targets: Sequence[torch.Tensor],
) -> GradwireError:
    """Returns an error of the model or the loss with where it was, and on what.

    Args:
        error: The error; one that torch did not raise is returned as it is.
        where: Where in the run it was, such as "in step 3".
        inputs: The inputs of the batch.
        targets: The targets of the batch.
    """
    if error.reason is not Reason.OPERATION_FAILED:
        return error
    facts = [
        f"{name}: {', '.join(map(_described, tensors))}"
        for name, tensors in (("inputs", inputs), ("targets", targets))
        if tensors
    ]
    message = f"{error.message}\n{where}, on a batch with {'; '.join(facts)}"
    if error.metadata.get("exception") == "IndexError" and any(map(_has_labels, targets)):
        message += ". Labels must be at least 0 and less than the number of classes of the outputs."
    return GradwireError(error.reason, message, metadata=error.metadata, fields=error.fields)


def not_finite(inputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> list[str]:
    """Returns which parts of a batch hold NaN or infinity: of "inputs" and "targets"."""
    parts = (("inputs", inputs), ("targets", targets))
    return [name for name, tensors in parts if not all(map(_is_finite, tensors))]


def _described(tensor: torch.Tensor) -> str:
    text = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    if _has_labels(tensor):
        text += f" from {tensor.min().item()} to {tensor.max().item()}"
    return text


def _has_labels(tensor: torch.Tensor) -> bool:
    """Whether a tensor may hold classes; a GPU that failed can't be asked any more."""
    kind = tensor.dtype
    whole = not (kind.is_floating_point or kind.is_complex or kind is torch.bool)
    return whole and bool(tensor.numel()) and tensor.device.type == "cpu"


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(tensor.isfinite().all())
