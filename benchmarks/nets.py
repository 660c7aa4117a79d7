"""The nets that are trained: as data, so that each way to train builds the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradwire.v1 import models_pb2, values_pb2


@dataclass(frozen=True, kw_only=True)
class Net:
    """A net with one hidden layer, and how it is trained.

    Attributes:
        name: What tables call it.
        sizes: Inputs, hidden units, outputs.
        batch_size: Samples per step.
        loss: A loss module of torch.nn: MSELoss or CrossEntropyLoss.
        optimizer: An optimizer of torch.optim.
        learning_rate: Its learning rate.
    """

    name: str
    sizes: tuple[int, int, int]
    batch_size: int
    loss: str
    optimizer: str
    learning_rate: float

    def samples(self, num_batches: int) -> tuple[Any, Any]:
        """Returns made-up inputs and targets as arrays: the time does not depend on the values."""
        random = np.random.default_rng(0)
        inputs, _, outputs = self.sizes
        count = num_batches * self.batch_size
        features = random.standard_normal((count, inputs), dtype=np.float32)
        if self.loss == "CrossEntropyLoss":
            return features, random.integers(outputs, size=count)
        return features, random.standard_normal((count, outputs), dtype=np.float32)

    def build(self, torch: Any) -> tuple[Any, Any, Any]:
        """Returns model, loss and optimizer, made of `torch`: torch itself or gradwire."""
        inputs, hidden, outputs = self.sizes

        class Model(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.hidden = torch.nn.Linear(inputs, hidden)
                self.output = torch.nn.Linear(hidden, outputs)

            def forward(self, features: Any) -> Any:
                return self.output(torch.relu(self.hidden(features)))

        torch.manual_seed(0)
        model = Model()
        optimizer = getattr(torch.optim, self.optimizer)(model.parameters(), lr=self.learning_rate)
        return model, getattr(torch.nn, self.loss)(), optimizer

    def create_request(self) -> models_pb2.CreateModelRequest:
        """Returns the request that makes the same model with its optimizer in a new session."""
        inputs, hidden, outputs = self.sizes
        layers = [
            _linear(inputs, hidden),
            models_pb2.ModuleSpec(type="torch.nn.ReLU"),
            _linear(hidden, outputs),
        ]
        learning_rate = values_pb2.Value(float_value=self.learning_rate)
        return models_pb2.CreateModelRequest(
            module=models_pb2.ModuleSpec(
                type="torch.nn.Sequential",
                children=[
                    models_pb2.ChildModule(name=str(index), module=layer)
                    for index, layer in enumerate(layers)
                ],
            ),
            optimizer=models_pb2.OptimizerSpec(
                type=f"torch.optim.{self.optimizer}", kwargs={"lr": learning_rate}
            ),
            seed=0,
        )

    def loss_spec(self) -> models_pb2.LossSpec:
        """Returns the loss as data."""
        return models_pb2.LossSpec(catalog=models_pb2.CatalogLoss(type=f"torch.nn.{self.loss}"))


def _linear(inputs: int, outputs: int) -> models_pb2.ModuleSpec:
    return models_pb2.ModuleSpec(
        type="torch.nn.Linear",
        args=[values_pb2.Value(int_value=inputs), values_pb2.Value(int_value=outputs)],
    )


NETS = (
    Net(
        name="notebook 3-5-1",
        sizes=(3, 5, 1),
        batch_size=2,
        loss="MSELoss",
        optimizer="SGD",
        learning_rate=0.01,
    ),
    Net(
        name="digits 64-32-10",
        sizes=(64, 32, 10),
        batch_size=64,
        loss="CrossEntropyLoss",
        optimizer="Adam",
        learning_rate=0.001,
    ),
    Net(
        name="MNIST 784-256-10",
        sizes=(784, 256, 10),
        batch_size=64,
        loss="CrossEntropyLoss",
        optimizer="Adam",
        learning_rate=0.001,
    ),
)
