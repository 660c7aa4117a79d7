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

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        inputs, hidden, outputs = self.sizes
        return (inputs + 1) * hidden + (hidden + 1) * outputs

    @property
    def state_bytes(self) -> int:
        """How many bytes parameters and optimizer take; Adam keeps two numbers for each."""
        return 4 * self.num_parameters * (3 if self.optimizer == "Adam" else 1)

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
        learning_rate = values_pb2.Value(float_value=self.learning_rate)
        return models_pb2.CreateModelRequest(
            module=models_pb2.ModuleSpec(
                type="torch.nn.Sequential",
                children=[
                    models_pb2.ChildModule(name=str(index), module=layer)
                    for index, layer in enumerate(self._layers())
                ],
            ),
            optimizer=models_pb2.OptimizerSpec(
                type=f"torch.optim.{self.optimizer}", kwargs={"lr": learning_rate}
            ),
            seed=0,
        )

    def _layers(self) -> list[models_pb2.ModuleSpec]:
        inputs, hidden, outputs = self.sizes
        return [
            _module("Linear", inputs, hidden),
            _module("ReLU"),
            _module("Linear", hidden, outputs),
        ]

    def loss_spec(self) -> models_pb2.LossSpec:
        """Returns the loss as data."""
        return models_pb2.LossSpec(catalog=models_pb2.CatalogLoss(type=f"torch.nn.{self.loss}"))


@dataclass(frozen=True, kw_only=True)
class ConvNet(Net):
    """A net with a convolution in front; `sizes` are those of the layers after it.

    Attributes:
        channels: Input and output channels of the convolution.
        side: Height and width of an image.
    """

    channels: tuple[int, int]
    side: int

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        inputs, outputs = self.channels
        return super().num_parameters + (9 * inputs + 1) * outputs

    def samples(self, num_batches: int) -> tuple[Any, Any]:
        """Returns made-up images and classes as arrays."""
        random = np.random.default_rng(0)
        count = num_batches * self.batch_size
        shape = (count, self.channels[0], self.side, self.side)
        return random.standard_normal(shape, dtype=np.float32), random.integers(
            self.sizes[2], size=count
        )

    def build(self, torch: Any) -> tuple[Any, Any, Any]:
        """Returns model, loss and optimizer, made of `torch`: torch itself or gradwire."""
        nn = torch.nn
        torch.manual_seed(0)
        inputs, hidden, outputs = self.sizes
        model = nn.Sequential(
            *(nn.Conv2d(*self.channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs)),
        )
        optimizer = getattr(torch.optim, self.optimizer)(model.parameters(), lr=self.learning_rate)
        return model, getattr(nn, self.loss)(), optimizer

    def _layers(self) -> list[models_pb2.ModuleSpec]:
        inputs, hidden, outputs = self.sizes
        return [
            _module("Conv2d", *self.channels, 3, padding=1),
            _module("ReLU"),
            _module("MaxPool2d", 2),
            _module("Flatten"),
            _module("Linear", inputs, hidden),
            _module("ReLU"),
            _module("Linear", hidden, outputs),
        ]


@dataclass(frozen=True, kw_only=True)
class ChainNet(Net):
    """A net whose hidden layer goes through many operations, one after the other.

    Attributes:
        num_operations: How many there are.
    """

    num_operations: int

    def build(self, torch: Any) -> tuple[Any, Any, Any]:
        """Returns model, loss and optimizer, made of `torch`: torch itself or gradwire."""
        inputs, hidden, outputs = self.sizes
        num_operations = self.num_operations

        class Model(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.hidden = torch.nn.Linear(inputs, hidden)
                self.output = torch.nn.Linear(hidden, outputs)

            def forward(self, features: Any) -> Any:
                hidden = self.hidden(features)
                for _ in range(num_operations):
                    hidden = torch.tanh(hidden)
                return self.output(hidden)

        model = Model()
        optimizer = getattr(torch.optim, self.optimizer)(model.parameters(), lr=self.learning_rate)
        return model, getattr(torch.nn, self.loss)(), optimizer

    def _layers(self) -> list[models_pb2.ModuleSpec]:
        inputs, hidden, outputs = self.sizes
        chain = [_module("Tanh")] * self.num_operations
        return [_module("Linear", inputs, hidden), *chain, _module("Linear", hidden, outputs)]


def _module(name: str, *sizes: int, **options: int) -> models_pb2.ModuleSpec:
    return models_pb2.ModuleSpec(
        type=f"torch.nn.{name}",
        args=[values_pb2.Value(int_value=size) for size in sizes],
        kwargs={option: values_pb2.Value(int_value=size) for option, size in options.items()},
    )


def find_net(name: str) -> Net:
    """Returns the net whose name begins so.

    Raises:
        ValueError: There is none.
    """
    for net in NETS:
        if net.name.lower().startswith(name.lower()):
            return net
    names = ", ".join(net.name for net in NETS)
    raise ValueError(f'"{name}" is none of the nets: {names}; the first word is enough')


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
    ConvNet(
        name="CNN 14x14, 8 channels",
        channels=(1, 8),
        side=14,
        sizes=(8 * 7 * 7, 32, 10),
        batch_size=32,
        loss="CrossEntropyLoss",
        optimizer="Adam",
        learning_rate=0.001,
    ),
)
