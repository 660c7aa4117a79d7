"""The training loop: one and the same code for local torch and for gradwire."""

import statistics
import time
from typing import Any

from benchmarks.nets import Net

BATCHES_PER_EPOCH = 100

VERBS = ("Forward", "ComputeLoss", "ZeroGrad", "Backward", "Step")
"""What a step consists of, in order, by the names of the contract."""


class Loop:
    """Trains a net on a batch that lies where the net does.

    Args:
        torch: torch itself, or gradwire.
        net: The net.
    """

    def __init__(self, torch: Any, net: Net) -> None:
        inputs, targets = net.samples(1)
        self._model, self._criterion, self._optimizer = net.build(torch)
        self._inputs, self._targets = torch.tensor(inputs), torch.tensor(targets)

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
    """

    def __init__(self, torch: Any, net: Net) -> None:
        self._model, self._criterion, self._optimizer = net.build(torch)
        data = torch.utils.data
        self._loader = data.DataLoader(
            data.TensorDataset(*map(torch.tensor, net.samples(BATCHES_PER_EPOCH))),
            batch_size=net.batch_size,
            shuffle=True,
        )

    def run(self, num_steps: int) -> float:
        """Returns the seconds that a step takes; whole epochs are run."""
        model, criterion, optimizer = self._model, self._criterion, self._optimizer
        num_epochs = max(num_steps // BATCHES_PER_EPOCH, 1)
        began = time.perf_counter()
        for _ in range(num_epochs):
            losses = []
            for inputs, targets in self._loader:
                optimizer.zero_grad()
                loss = criterion(model(inputs), targets)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            sum(loss.item() for loss in losses)
        return (time.perf_counter() - began) / (num_epochs * BATCHES_PER_EPOCH)
