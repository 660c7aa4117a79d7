"""Trains a classifier of handwritten digits on a server, in two ways.

First in a loop like any other of torch, whose steps run on the server; then with `gradwire.train`,
where the loop itself runs there. Without an address it starts a server of its own:

    python examples/digits.py
    GRADWIRE_ADDRESS=gpu-box:50051 python examples/digits.py

If torch is installed here too, it does the same, and losses and time are compared.
"""

import importlib
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import gradwire

EPOCHS = 30
BATCH_SIZE = 64
PLOT = Path("outputs/digits.png")


class Data(NamedTuple):
    """Pixels of shape [samples, 64], from 0 to 1, and labels of shape [samples]."""

    train_pixels: Any
    test_pixels: Any
    train_labels: Any
    test_labels: Any


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run: its loss at each step, and its test accuracy before and after."""

    name: str
    device: str
    losses: list[float]
    before: float
    after: float
    seconds: float


def load_data() -> Data:
    pixels, labels = load_digits(return_X_y=True)
    return Data(
        *train_test_split(
            (pixels / 16).astype(np.float32), labels, test_size=0.2, random_state=0, stratify=labels
        )
    )


def build(torch: Any) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    return model, torch.nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=0.01)


def accuracy(torch: Any, model: Any, data: Data) -> float:
    with torch.no_grad():
        guesses = model(torch.tensor(data.test_pixels)).argmax(dim=1)
    return float(np.mean(guesses.numpy() == data.test_labels))


def train_in_a_loop(torch: Any, data: Data, *, name: str, device: str) -> Run:
    """Trains in a loop; `torch` is gradwire or torch itself."""
    pixels, labels = torch.tensor(data.train_pixels), torch.tensor(data.train_labels)
    model, criterion, optimizer = build(torch)
    losses: list[float] = []
    before = accuracy(torch, model, data)
    began = time.perf_counter()
    with tqdm(total=EPOCHS * num_batches(data), unit="step", desc=f"{name} on {device}") as bar:
        for epoch in range(1, EPOCHS + 1):
            epoch_losses = []
            for rows in torch.randperm(len(pixels)).split(BATCH_SIZE):
                optimizer.zero_grad()
                loss = criterion(model(pixels[rows]), labels[rows])
                loss.backward()
                optimizer.step()
                epoch_losses.append(loss.detach())
                bar.update()
            # Values are asked for once an epoch, so that steps need not wait for each other.
            losses += torch.stack(epoch_losses).tolist()
            mean_loss = np.mean(losses[-len(epoch_losses) :])
            bar.set_postfix_str(f"epoch {epoch}/{EPOCHS}, loss {mean_loss:.4f}", refresh=False)
    seconds = time.perf_counter() - began
    return Run(
        name=name,
        device=device,
        losses=losses,
        before=before,
        after=accuracy(torch, model, data),
        seconds=seconds,
    )


def train_on_the_server(data: Data, *, name: str) -> Run:
    """Trains with the loop on the server, too."""
    model, criterion, optimizer = build(gradwire)
    before = accuracy(gradwire, model, data)
    began = time.perf_counter()
    result = gradwire.train(
        model,
        (data.train_pixels, data.train_labels),
        exact=True,
        loss=criterion,
        optimizer=optimizer,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
    )
    seconds = time.perf_counter() - began
    return Run(
        name=name,
        device=result.device,
        losses=result.losses,
        before=before,
        after=accuracy(gradwire, model, data),
        seconds=seconds,
    )


def train_with_a_data_loader(torch: Any, data: Data, *, name: str) -> Run:
    """Does here, with local torch, what `gradwire.train` does on the server."""
    dataset = torch.utils.data.TensorDataset(
        torch.tensor(data.train_pixels), torch.tensor(data.train_labels)
    )
    model, criterion, optimizer = build(torch)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    losses: list[float] = []
    before = accuracy(torch, model, data)
    began = time.perf_counter()
    for _ in tqdm(range(EPOCHS), unit="epoch", desc=f"{name} on cpu"):
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(pixels), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    seconds = time.perf_counter() - began
    return Run(
        name=name,
        device="cpu",
        losses=losses,
        before=before,
        after=accuracy(torch, model, data),
        seconds=seconds,
    )


def num_batches(data: Data) -> int:
    return -(-len(data.train_labels) // BATCH_SIZE)


def print_table(runs: list[Run]) -> None:
    print(f"\n{'':20}{'device':>8}{'steps':>8}{'ms/step':>9}{'loss':>10}{'test accuracy':>20}")
    for run in runs:
        print(
            f"{run.name:20}{run.device:>8}{len(run.losses):8}"
            f"{1000 * run.seconds / len(run.losses):9.3f}{run.losses[-1]:10.5f}"
            f"{run.before:12.1%} -> {run.after:.1%}"
        )


def print_comparison(remote: Run, local: Run) -> None:
    difference = np.abs(np.subtract(remote.losses, local.losses)).max()
    equal = "are equal to the last bit" if difference == 0 else f"differ by up to {difference:.1e}"
    print(
        f"{remote.name} and {local.name}: all {len(remote.losses)} losses {equal}; "
        f"{remote.seconds / local.seconds:.2f} x the time per step"
    )


def plot_losses(runs: list[Run]) -> None:
    mpl.use("Agg")
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for run, axes in zip(runs, [*panels, *panels], strict=False):
        local = run.name.startswith("torch")
        axes.plot(
            run.losses,
            label=f"{run.name} ({run.device})",
            color="C1" if local else "C0",
            linewidth=5 if local else 1,
            alpha=0.3 if local else 1,
        )
        axes.set(xlabel="step", ylabel="loss", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Handwritten digits")
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=120)


def main() -> None:
    data = load_data()
    print(f"{len(data.train_labels)} digits to train on, {len(data.test_labels)} to test with.")
    with gradwire.connect() as session:
        print(f"Connected to {session.address}, which computes on {session.device}.\n")
        runs = [
            train_in_a_loop(gradwire, data, name="gradwire, loop", device=session.device),
            train_on_the_server(data, name="gradwire.train"),
        ]
        if importlib.util.find_spec("torch") is not None:
            torch = importlib.import_module("torch")
            runs += [
                train_in_a_loop(torch, data, name="torch, loop", device="cpu"),
                train_with_a_data_loader(torch, data, name="torch, DataLoader"),
            ]

    print_table(runs)
    if len(runs) > 2:
        print()
        print_comparison(runs[0], runs[2])
        print_comparison(runs[1], runs[3])
    plot_losses(runs)
    print(f"\nLosses plotted in {PLOT}.")


if __name__ == "__main__":
    main()
