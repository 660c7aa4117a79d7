"""Transforms of batches: recorded programs that run before the model sees a batch."""

import torch

from gradwire.v1 import runs_pb2
from gradwire_server.engine.failures import operation
from gradwire_server.engine.programs import Program
from gradwire_server.engine.session import Session
from gradwire_server.engine.snapshot import register
from gradwire_server.engine.sources import Batch
from gradwire_server.errors import GradwireError, Reason, invalid


@register
class Transform:
    """A program from the inputs and targets of a batch to those of another.

    Args:
        program: Its inputs are all inputs and then all targets of a batch; so are its outputs.
        num_inputs: How many of its outputs are inputs.
    """

    def __init__(self, program: Program, num_inputs: int) -> None:
        self._program = program
        self._num_inputs = num_inputs

    def apply(self, batch: Batch) -> Batch:
        """Returns the transformed batch.

        Raises:
            GradwireError: An operation failed, or an output is not a tensor.
        """
        inputs, targets = batch
        with torch.no_grad(), operation("transform"):
            outputs = self._program.call(*inputs, *targets)
        tensors = list(outputs) if isinstance(outputs, tuple) else [outputs]
        if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
            raise GradwireError(
                Reason.INVALID_REQUEST, "the transform returns something that is not a tensor"
            )
        return tensors[: self._num_inputs], tensors[self._num_inputs :]


def build_transform(session: Session, spec: runs_pb2.BatchTransform, path: str) -> Transform:
    """Returns the transform of a description.

    Args:
        session: Whose handles and catalog it refers to.
        spec: The description.
        path: The request field it came in, for errors.

    Raises:
        GradwireError: The program is malformed.
    """
    if not 0 < spec.num_inputs <= len(spec.program.outputs):
        raise invalid(
            f"{path}.num_inputs",
            f"is {spec.num_inputs}, but the program has {len(spec.program.outputs)} outputs",
        )
    return Transform(session.program(spec.program, f"{path}.program"), spec.num_inputs)
