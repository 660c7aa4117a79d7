"""Trains a classifier of handwritten digits on a server, and kills a worker on the way.

First in a loop like any other of torch, whose steps run on the server. Then with `gradwire.train`,
where the loop itself runs there, over an uploaded dataset, with validation and checkpoints. Then
the same once more, while the worker process is killed in the middle: the run goes on from its last
checkpoint by itself, and ends with the same weights, bit for bit.

Without an address it starts a server of its own, and only of that it kills a worker:

    python examples/digits.py
    GRADWIRE_ADDRESS=gpu-box:50051 python examples/digits.py

If torch is installed here too, it does the same, and losses and time are compared.
"""

import importlib
import importlib.util
import os
import signal
import threading
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
from gradwire.v1 import server_pb2, server_pb2_grpc

EPOCHS = 60
BATCH_SIZE = 64
CHECKPOINT_EVERY_STEPS = 50
DATASET = "gradwire-demo-digits"
PLOT = Path("outputs/digits.png")


class Data(NamedTuple):
    """Pixels of shape [samples, 64], from 0 to 1, and labels of shape [samples]."""

    train_pixels: Any
    test_pixels: Any
    train_labels: Any
    test_labels: Any


@dataclass(frozen=True, kw_only=True)
class Result:
    """What training came to.

    Attributes:
        name: How it was done.
        device: Where.
        losses: The loss of each step.
        accuracies: The test accuracy before, and later on; the last is that after all steps.
        seconds: How long it took, evaluations between the steps included.
        weights: The bytes of each parameter.
        killed_after: The steps that were known when the worker was killed, if it was.
    """

    name: str
    device: str
    losses: list[float]
    accuracies: list[float]
    seconds: float
    weights: list[bytes]
    killed_after: int | None = None


def load_data() -> Data:
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(np.float32)
    return Data(*train_test_split(pixels, labels, test_size=0.2, random_state=0, stratify=labels))


def build(torch: Any) -> tuple[Any, Any, Any]:
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    return model, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=0.01)


def accuracy(torch: Any, model: Any, data: Data) -> float:
    model.eval()
    with torch.no_grad():
        guesses = model(torch.tensor(data.test_pixels)).argmax(dim=1)
    model.train()
    return float(np.mean(guesses.numpy() == data.test_labels))


def weights_of(model: Any) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]


def train_in_a_loop(torch: Any, data: Data, *, name: str, device: str) -> Result:
    """Trains in a loop; `torch` is gradwire or torch itself."""
    pixels, labels = torch.tensor(data.train_pixels), torch.tensor(data.train_labels)
    model, criterion, optimizer = build(torch)
    losses: list[float] = []
    before = accuracy(torch, model, data)
    began = time.perf_counter()
    with tqdm(total=EPOCHS * num_batches(data), unit="step", desc=name) as bar:
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
    return Result(
        name=name,
        device=device,
        seconds=time.perf_counter() - began,
        losses=losses,
        accuracies=[before, accuracy(torch, model, data)],
        weights=weights_of(model),
    )


def train_on_the_server(
    dataset: Any, data: Data, *, name: str, worker: int | None = None
) -> Result:
    """Trains with the loop on the server, too.

    Args:
        dataset: The training data, on the server.
        data: What to evaluate on.
        name: What to call it.
        worker: The process id of the worker, if it is to be killed on the way.
    """
    model, criterion, optimizer = build(gradwire)
    before = accuracy(gradwire, model, data)
    run = gradwire.train(
        model,
        dataset,
        exact=True,
        loss=criterion,
        optimizer=optimizer,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        validation=(data.test_pixels, data.test_labels),
        metrics="accuracy",
        checkpoint={"every_steps": CHECKPOINT_EVERY_STEPS},
        name=name,
        wait=False,
    )
    died_after: list[int] = []
    killer = threading.Thread(target=kill_on_the_way, args=(run.name, worker, died_after))
    if worker is not None:
        killer.start()
    run.wait()
    if worker is not None:
        killer.join()
    result = Result(
        name=name,
        device=run.device,
        seconds=run.elapsed_seconds,
        losses=run.losses,
        accuracies=[before, *run.history["accuracy"].tolist()],
        weights=weights_of(model),
        killed_after=died_after[0] if died_after else None,
    )
    run.delete()
    return result


def kill_on_the_way(name: str, pid: int, died_after: list[int]) -> None:
    """Watches a run as any other program could, and kills its worker when it tells of steps.

    Adds to `died_after` the step at which the server noticed.
    """
    killed = False
    for event in gradwire.runs.attach(name).events():
        if not killed and event.progress.step:
            os.kill(pid, signal.SIGKILL)
            killed = True
        if event.state_change.reason == "WORKER_DIED":
            died_after.append(event.state_change.step)
            return


def worker_of(session: Any) -> int:
    """Returns the process id of the only worker of the demo's own server."""
    stub = server_pb2_grpc.ServerServiceStub(session.channel)
    (worker,) = session.call(stub.GetServerInfo, server_pb2.GetServerInfoRequest()).workers
    return int(worker.pid)


def train_with_a_data_loader(torch: Any, data: Data, *, name: str) -> Result:
    """Does here, with local torch, what `gradwire.train` does on the server."""
    dataset = torch.utils.data.TensorDataset(
        torch.tensor(data.train_pixels), torch.tensor(data.train_labels)
    )
    model, criterion, optimizer = build(torch)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    losses: list[float] = []
    accuracies = [accuracy(torch, model, data)]
    began = time.perf_counter()
    for _ in tqdm(range(EPOCHS), unit="epoch", desc=name):
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(pixels), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        accuracies.append(accuracy(torch, model, data))
    return Result(
        name=name,
        device="cpu",
        seconds=time.perf_counter() - began,
        losses=losses,
        accuracies=accuracies,
        weights=weights_of(model),
    )


def num_batches(data: Data) -> int:
    return -(-len(data.train_labels) // BATCH_SIZE)


def print_table(results: list[Result]) -> None:
    print(f"\n{'':28}{'device':>8}{'steps':>8}{'ms/step':>9}{'loss':>10}{'test accuracy':>20}")
    for result in results:
        print(
            f"{result.name:28}{result.device:>8}{len(result.losses):8}"
            f"{1000 * result.seconds / len(result.losses):9.3f}{result.losses[-1]:10.5f}"
            f"{result.accuracies[0]:12.1%} -> {result.accuracies[-1]:.1%}"
        )


def print_comparison(remote: Result, local: Result) -> None:
    difference = np.abs(np.subtract(remote.losses, local.losses)).max()
    equal = "are equal to the last bit" if difference == 0 else f"differ by up to {difference:.1e}"
    print(
        f"{remote.name} and {local.name}: all {len(remote.losses)} losses {equal}; "
        f"{remote.seconds / local.seconds:.2f} x the time per step"
    )


def print_recovery(undisturbed: Result, killed: Result) -> None:
    if killed.killed_after is None:
        print("The run had ended before its worker could be killed.")
        return
    equal = "equal bit for bit" if killed.weights == undisturbed.weights else "different"
    print(
        f"The worker was killed after step {killed.killed_after}; the run went on by itself, and "
        f"its weights and those of the undisturbed run are {equal}."
    )


def plot(results: list[Result]) -> None:
    """Plots losses, and test accuracies where there are several."""
    mpl.use("Agg")
    figure, axes = plt.subplot_mosaic(
        [["loop", "run"], ["loop", "accuracy"]],
        figsize=(11, 5.5),
        height_ratios=[2, 1],
        layout="constrained",
    )
    axes["accuracy"].sharex(axes["run"])
    for result in results:
        local, looped = result.name.startswith("torch"), len(result.accuracies) == 2
        style: dict[str, Any] = {"color": "C1", "linewidth": 5, "alpha": 0.3} if local else {}
        if not local:
            style = {"color": "C0" if result.killed_after is None else "C2", "linewidth": 1}
        loss = axes["loop" if looped else "run"]
        loss.plot(result.losses, label=f"{result.name} ({result.device})", **style)
        if not looped:
            steps = np.linspace(0, len(result.losses), len(result.accuracies))
            axes["accuracy"].plot(steps, result.accuracies, **style)
        if result.killed_after is not None:
            for panel in (axes["run"], axes["accuracy"]):
                panel.axvline(result.killed_after, color="C3", linestyle="--", linewidth=1)
            loss.plot([], [], color="C3", linestyle="--", label="worker killed")
    axes["loop"].set(title="A loop of one's own", xlabel="step", ylabel="loss", yscale="log")
    axes["run"].set(title="gradwire.train", ylabel="loss", yscale="log")
    axes["accuracy"].set(xlabel="step", ylabel="test accuracy")
    for panel in axes.values():
        panel.grid(alpha=0.3)
    axes["loop"].legend()
    axes["run"].legend()
    figure.suptitle("Handwritten digits")
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=120)


def main() -> None:
    data = load_data()
    print(f"{len(data.train_labels)} digits to train on, {len(data.test_labels)} to test with.")
    with gradwire.connect() as session:
        print(f"Connected to {session.address}, which computes on {session.device}.\n")
        looped = train_in_a_loop(gradwire, data, name="gradwire, loop", device=session.device)
        # It stays there: the next time it is known by its contents, and nothing moves.
        columns = {"pixels": data.train_pixels, "labels": data.train_labels}
        dataset = gradwire.datasets.upload(DATASET, columns)
        trained = train_on_the_server(dataset, data, name="gradwire.train")
        results = [looped, trained]
        killed = None
        if not os.environ.get("GRADWIRE_ADDRESS"):
            name = "gradwire.train, killed"
            killed = train_on_the_server(dataset, data, name=name, worker=worker_of(session))
            results.append(killed)

    if importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
        local = [
            train_in_a_loop(torch, data, name="torch, loop", device="cpu"),
            train_with_a_data_loader(torch, data, name="torch, DataLoader"),
        ]
    else:
        local = []

    print_table([*results, *local])
    print()
    for remote, beside in zip([looped, trained], local, strict=False):
        print_comparison(remote, beside)
    if killed is not None:
        print_recovery(trained, killed)
    plot([*results, *local])
    print(f"\nPlotted in {PLOT}.")


if __name__ == "__main__":
    main()
