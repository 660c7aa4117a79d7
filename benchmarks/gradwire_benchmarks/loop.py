"""The training loop: one and the same code for local torch and for gradwire."""

import statistics
import time
from typing import Any

from gradwire_benchmarks.nets import Net

BATCHES_PER_EPOCH = 100

VERBS = ("Forward", "ComputeLoss", "ZeroGrad", "Backward", "Step")
"""What a step consists of, in order, by the names of the contract."""


class Loop:
    """Trains a net on a batch that lies where the net does.

    Args:
        torch: torch itself, or gradwire.
        net: The net.
        device: Where; gradwire's is that of its session.
    """

    def __init__(self, torch: Any, net: Net, device: str = "cpu") -> None:
        inputs, targets = net.samples(1)
        self._model, self._criterion, self._optimizer = net.build(torch)
        self._inputs, self._targets = torch.tensor(inputs), torch.tensor(targets)
        if device != "cpu":
            self._model.to(device)
            self._inputs, self._targets = self._inputs.to(device), self._targets.to(device)

    def run(self, num_steps: int, read_every: int) -> float:
        """Returns the seconds that a step takes.

        Args:
            num_steps: How many steps to take; a multiple of `read_every`.
            read_every: After how many steps the loss is read.
        """
        model, criterion, optimizer = self._model, self._criterion, self._optimizer
        inputs, targets = self._inputs, self._targets
        began = time.perf_counter()
        for step in range(1, num_steps + 1):
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if step % read_every == 0:
                loss.item()
        return (time.perf_counter() - began) / num_steps

    def step(self) -> float:
        """Takes a step; returns its loss."""
        self._optimizer.zero_grad()
        loss = self._criterion(self._model(self._inputs), self._targets)
        loss.backward()
        self._optimizer.step()
        value: float = loss.item()
        return value

    def run_for(self, seconds: float, read_every: int) -> int:
        """Takes steps for so long, and returns how many; the last one's loss was read.

        Args:
            seconds: How long to begin steps; one is taken in any case.
            read_every: After how many steps the loss is read.
        """
        end = time.perf_counter() + seconds
        num_steps = 0
        while True:
            self._optimizer.zero_grad()
            loss = self._criterion(self._model(self._inputs), self._targets)
            loss.backward()
            self._optimizer.step()
            num_steps += 1
            if time.perf_counter() >= end:
                loss.item()
                return num_steps
            if num_steps % read_every == 0:
                loss.item()

    def run_verbs(self, num_steps: int) -> dict[str, float]:
        """Returns the median seconds that each verb takes."""
        clock = time.perf_counter
        times = []
        for _ in range(num_steps):
            began = clock()
            output = self._model(self._inputs)
            forwarded = clock()
            loss = self._criterion(output, self._targets)
            computed = clock()
            self._optimizer.zero_grad()
            zeroed = clock()
            loss.backward()
            differentiated = clock()
            self._optimizer.step()
            stepped = clock()
            times.append((began, forwarded, computed, zeroed, differentiated, stepped))
        return {
            verb: statistics.median(marks[index + 1] - marks[index] for marks in times)
            for index, verb in enumerate(VERBS)
        }


class LoaderLoop:
    """Trains a net over the batches of a DataLoader, the losses read once an epoch.

    Args:
        torch: torch itself.
        net: The net.
        device: Where.
    """

    def __init__(self, torch: Any, net: Net, device: str) -> None:
        self._model, self._criterion, self._optimizer = net.build(torch)
        self._model.to(device)
        self._device = torch.device(device)
        data = torch.utils.data
        self._loader = data.DataLoader(
            data.TensorDataset(*map(torch.tensor, net.samples(BATCHES_PER_EPOCH))),
            batch_size=net.batch_size,
            shuffle=True,
        )

    def run(self, num_steps: int) -> float:
        """Returns the seconds that a step takes; whole epochs are run."""
        model, criterion, optimizer = self._model, self._criterion, self._optimizer
        device = self._device
        num_epochs = max(num_steps // BATCHES_PER_EPOCH, 1)
        began = time.perf_counter()
        for _ in range(num_epochs):
            losses = []
            for inputs, targets in self._loader:
                if device.type != "cpu":
                    inputs, targets = inputs.to(device), targets.to(device)  # noqa: PLW2901
                optimizer.zero_grad()
                loss = criterion(model(inputs), targets)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            sum(loss.item() for loss in losses)
        return (time.perf_counter() - began) / (num_epochs * BATCHES_PER_EPOCH)
