"""Recipes of `gradwire.train` do what the loops that users write do with local torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.text import Perplexity

import gradwire
from gradwire.runs import Run
from gradwire.session import Session
from tests.parity.comparing import comparable

pytestmark = pytest.mark.usefixtures("session")

NUM_CLASSES = 3
EPOCHS, BATCH_SIZE = 4, 8


def data(seed: int = 0, num_samples: int = 30) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((num_samples, 5), dtype=np.float32)
    return inputs, random.integers(0, NUM_CLASSES, num_samples)


def build(torch: Any, optimizer: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, NUM_CLASSES))
    return model, optimizer(torch, model)


def sgd(torch: Any, model: Any) -> Any:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def adamw(torch: Any, model: Any) -> Any:
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def local(
    optimizer: Callable[[Any, Any], Any],
    *,
    scheduler: Callable[[Any, Any], Any] | None = None,
    per_step: bool = False,
    accumulate: int = 1,
    clip_grad_norm: float | None = None,
    clip_grad_value: float | None = None,
    ema: float | None = None,
    precision: torch.dtype | None = None,
    after_epoch: Callable[[Any], bool] = lambda _: False,
) -> tuple[Any, list[float], Any]:
    """The loop that users write; returns the model, the losses of the steps, and the average."""
    model, stepped = build(torch, optimizer)
    schedule = None if scheduler is None else scheduler(torch, stepped)
    average = None
    if ema is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))  # type: ignore[no-untyped-call,unused-ignore]
    dataset = TensorDataset(*(torch.from_numpy(part) for part in data()))
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    losses: list[float] = []
    for _ in range(EPOCHS):
        window: list[float] = []
        for number, (inputs, targets) in enumerate(loader, start=1):
            if not window:
                stepped.zero_grad()
            with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
                loss = torch.nn.functional.cross_entropy(model(inputs), targets)
            (loss / accumulate if accumulate > 1 else loss).backward()
            window.append(loss.item())
            if len(window) < accumulate and number < len(loader):
                continue
            if clip_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
            if clip_grad_value is not None:
                torch.nn.utils.clip_grad_value_(model.parameters(), clip_grad_value)
            stepped.step()
            if average is not None:
                average.update_parameters(model)
            if schedule is not None and per_step:
                schedule.step()
            losses.append(sum(window) / len(window))
            window = []
        if schedule is not None and not per_step:
            schedule.step()
        if after_epoch(model):
            break
    return model, losses, average


def remote(optimizer: Callable[[Any, Any], Any], **options: Any) -> tuple[Any, Run]:
    model, stepped = build(gradwire, optimizer)
    scheduler = options.pop("scheduler", None)
    if scheduler is not None:
        made, interval = scheduler
        options["scheduler"] = (made(gradwire, stepped), interval)
    run = gradwire.train(
        model,
        data(),
        exact=True,
        loss=gradwire.nn.CrossEntropyLoss(),
        optimizer=stepped,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        checkpoint=False,
        **options,
    )
    return model, run


def cosine(torch: Any, optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)


def warm_up(torch: Any, optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=6)


def lambda_lr(torch: Any, optimizer: Any, function: Any = lambda n: 1 / (1 + 0.3 * n)) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, function)


def multiplicative(torch: Any, optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda n: 0.9 + 0.01 / n)


def sequence(torch: Any, optimizer: Any) -> Any:
    schedulers = torch.optim.lr_scheduler
    parts = [schedulers.LambdaLR(optimizer, lambda n: (n + 1) / 5), lambda_lr(torch, optimizer)]
    return schedulers.SequentialLR(optimizer, parts, milestones=[5])


def chain(torch: Any, optimizer: Any) -> Any:
    schedulers = torch.optim.lr_scheduler
    parts = [lambda_lr(torch, optimizer), schedulers.ExponentialLR(optimizer, 0.9)]
    return schedulers.ChainedScheduler(parts, optimizer)


def cyclic(torch: Any, optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.CyclicLR(
        optimizer, 0.01, 0.1, step_size_up=3, scale_fn=lambda n: 0.7**n
    )


@pytest.mark.parametrize(
    ("optimizer", "here", "there"),
    [
        (sgd, {"scheduler": cosine}, {"scheduler": (cosine, "epoch")}),
        (adamw, {"scheduler": warm_up, "per_step": True}, {"scheduler": (warm_up, "step")}),
        (sgd, {"scheduler": lambda_lr}, {"scheduler": (lambda_lr, None)}),
        (adamw, {"scheduler": multiplicative}, {"scheduler": (multiplicative, "epoch")}),
        (sgd, {"scheduler": sequence, "per_step": True}, {"scheduler": (sequence, "step")}),
        (sgd, {"scheduler": chain}, {"scheduler": (chain, "epoch")}),
        (sgd, {"scheduler": cyclic, "per_step": True}, {"scheduler": (cyclic, None)}),
        (sgd, {"accumulate": 3}, {"accumulate": 3}),
        (adamw, {"clip_grad_norm": 0.3}, {"clip_grad_norm": 0.3}),
        (sgd, {"clip_grad_value": 0.02}, {"clip_grad_value": 0.02}),
    ],
    ids=[
        *("cosine", "warm-up", "lambda", "multiplicative", "sequence", "chain", "cyclic"),
        *("accumulation", "norm", "value"),
    ],
)
def test_a_recipe_equals_a_local_loop_bit_for_bit(
    optimizer: Callable[[Any, Any], Any], here: dict[str, Any], there: dict[str, Any]
) -> None:
    expected, losses, _ = local(optimizer, **here)
    model, run = remote(optimizer, **there)
    assert run.losses == losses
    assert comparable(model.state_dict()) == comparable(expected.state_dict())


def test_a_moving_average_equals_that_of_torch_bit_for_bit() -> None:
    expected, losses, average = local(adamw, ema=0.8)
    model, run = remote(adamw, ema=0.8)
    assert run.losses == losses
    assert comparable(model.state_dict()) == comparable(expected.state_dict())
    averaged = {name: tensor.numpy() for name, tensor in run.averaged_state_dict.items()}
    for name, tensor in average.module.state_dict().items():
        assert np.array_equal(averaged[name], tensor.numpy()), name


def test_autocast_to_bfloat16_is_close_to_that_of_torch() -> None:
    expected, losses, _ = local(sgd, precision=torch.bfloat16)
    model, run = remote(sgd, precision="bfloat16")
    np.testing.assert_allclose(run.losses, losses, rtol=1.6e-2, atol=1e-5)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(
            torch.from_numpy(model.state_dict()[name].numpy()), tensor, rtol=1.6e-2, atol=1e-3
        )


def test_evaluations_and_early_stopping_equal_a_local_loop() -> None:
    inputs, targets = (torch.from_numpy(part) for part in data(seed=1))
    accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=NUM_CLASSES)
    f1 = torchmetrics.F1Score(task="multiclass", num_classes=NUM_CLASSES, average="macro")
    seen: list[tuple[float, float, float]] = []

    def after_epoch(model: Any) -> bool:
        model.eval()
        with torch.no_grad():
            outputs = model(inputs)
            loss = torch.nn.functional.cross_entropy(outputs, targets).item()
            seen.append((loss, float(accuracy(outputs, targets)), float(f1(outputs, targets))))
        model.train()
        best = int(np.argmin([loss for loss, _, _ in seen]))
        return len(seen) - 1 - best >= 1

    def margin(outputs: Any, targets: Any) -> Any:
        best, _ = outputs.topk(2, dim=1)
        return (best[:, 0] - best[:, 1]).mean() * len(targets) / len(targets)

    expected, losses, _ = local(sgd, after_epoch=after_epoch)
    model, run = remote(
        sgd,
        validation={"data": data(seed=1), "batch_size": 30},
        metrics={"accuracy": "accuracy", "f1": ("f1", {"average": "macro"}), "margin": margin},
        early_stopping=1,
    )
    assert run.losses == losses
    assert comparable(model.state_dict()) == comparable(expected.state_dict())
    history = run.history
    assert history["validation_loss"].tolist() == [loss for loss, _, _ in seen]
    assert history["accuracy"].tolist() == [value for _, value, _ in seen]
    assert history["f1"].tolist() == [value for _, _, value in seen]
    assert len(history["margin"]) == len(seen)
    assert run.reason == ("EARLY_STOPPING" if len(seen) < EPOCHS else "")


def language_model(torch: Any) -> Any:
    """A model with outputs (samples, tokens, words), and the words as targets (samples, tokens)."""
    nn = torch.nn
    return nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 11))


def word_loss(outputs: Any, targets: Any) -> Any:
    functional = gradwire.nn.functional if isinstance(outputs, gradwire.Tensor) else F
    return functional.cross_entropy(outputs.reshape(-1, 11), targets.reshape(-1))


def one_number(torch: Any) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


TOKENS = np.random.default_rng(2).integers(0, 11, (18, 7))
INPUTS = np.random.default_rng(3).standard_normal((18, 5), dtype=np.float32)
SUMS = INPUTS.sum(1, keepdims=True)
M = torchmetrics


def classes_second(outputs: Any) -> Any:
    return outputs.movedim(-1, 1)


@pytest.mark.parametrize(
    ("build_model", "data", "losses", "metrics"),
    [
        (
            language_model,
            (TOKENS, (TOKENS * 3 + 1) % 11),
            (word_loss, word_loss),
            {
                "perplexity": (Perplexity(), None),
                "accuracy": (M.Accuracy(task="multiclass", num_classes=11), classes_second),
                "f1": (M.F1Score(task="multiclass", num_classes=11), classes_second),
            },
        ),
        (
            one_number,
            (INPUTS, (SUMS > 0).astype(np.float32)),
            (gradwire.nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits),
            {"auroc": (M.AUROC(task="binary"), None), "f1": (M.F1Score(task="binary"), None)},
        ),
        (
            one_number,
            (INPUTS, SUMS),
            (gradwire.nn.MSELoss, F.mse_loss),
            {"mae": (M.MeanAbsoluteError(), torch.flatten), "r2": (M.R2Score(), torch.flatten)},
        ),
    ],
    ids=["words", "binary", "numbers"],
)
def test_losses_and_metrics_equal_those_of_a_local_loop(
    build_model: Any, data: Any, losses: Any, metrics: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    expected = build_model(torch)
    stepped = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9)
    inputs, targets = map(torch.from_numpy, data)
    told: list[float] = []
    values: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(3):
        for batch, wanted in DataLoader(TensorDataset(inputs, targets), batch_size=6):
            stepped.zero_grad()
            loss = losses[1](expected(batch), wanted)
            loss.backward()
            stepped.step()
            told.append(loss.item())
        with torch.no_grad():
            for name, (metric, change) in metrics.items():
                metric.reset()
                for batch, wanted in DataLoader(TensorDataset(inputs, targets), batch_size=6):
                    wanted = wanted.long() if name in ("auroc", "f1") else wanted
                    outputs = expected(batch)
                    if change is torch.flatten:
                        outputs, wanted = outputs.flatten(), wanted.flatten()
                    elif change is not None:
                        outputs = change(outputs)
                    metric.update(outputs, wanted)
                values[name].append(float(metric.compute()))

    gradwire.manual_seed(0)
    model = build_model(gradwire)
    run = gradwire.train(
        model,
        data,
        exact=True,
        loss=losses[0]() if isinstance(losses[0], type) else losses[0],
        optimizer=gradwire.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        epochs=3,
        batch_size=6,
        shuffle=False,
        validation=data,
        metrics=list(metrics),
        checkpoint=False,
    )
    assert run.losses == told
    for name, expected_values in values.items():
        assert run.history[name].tolist() == expected_values, name


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_an_optimizer_with_closures_leaves_out_steps_that_are_not_finite(line_search: Any) -> None:
    inputs = np.random.default_rng(0).standard_normal((12, 5), dtype=np.float32)
    inputs[4:8] = np.nan

    def lbfgs(torch: Any, model: Any) -> Any:
        return torch.optim.LBFGS(model.parameters(), lr=0.1, line_search_fn=line_search)

    model, optimizer = build(gradwire, lbfgs)
    run = gradwire.train(
        model,
        (inputs, np.zeros(12, np.int64)),
        loss=gradwire.nn.CrossEntropyLoss(),
        optimizer=optimizer,
        epochs=2,
        batch_size=4,
        shuffle=False,
        checkpoint=False,
        on_nonfinite="skip",
    )
    assert np.isfinite(run.losses).tolist() == [True, False, True] * 2
    assert len(run.warnings) == 2
    assert all(np.isfinite(tensor.numpy()).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("choice", ["raise", "stop", "skip"])
def test_data_that_is_not_finite_is_told_with_step_and_parameters(
    choice: str, session: Session
) -> None:
    inputs, targets = data()
    inputs[20] = np.nan
    model, optimizer = build(gradwire, sgd)
    options: dict[str, Any] = {
        "loss": gradwire.nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "batch_size": 8,
        "shuffle": False,
        "checkpoint": False,
        "on_nonfinite": choice,
    }
    if choice == "raise":
        with pytest.raises(
            FloatingPointError, match=r"step 3: .*0\.weight.* NaN or infinity in its inputs"
        ):
            gradwire.train(model, (inputs, targets), **options)
    else:
        run = gradwire.train(model, (inputs, targets), **options)
        assert run.state == "SUCCEEDED"
        assert run.num_steps == (3 if choice == "stop" else 4)
        assert run.reason == ("NON_FINITE" if choice == "stop" else "")
        assert "step 3" in run.warnings[0]
        assert "the batch holds NaN or infinity in its inputs" in run.warnings[0]
        assert np.isfinite(run.mean_loss)
    assert np.isfinite(model.state_dict()["0.weight"].numpy()).all()


def test_a_schedule_without_a_known_end_is_refused() -> None:
    model, optimizer = build(gradwire, sgd)
    scheduler = gradwire.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    with pytest.raises(ValueError, match=r"LambdaLR calls a function .* isn't known; give steps="):
        gradwire.train(
            model,
            iter([data()]),
            loss=gradwire.nn.CrossEntropyLoss(),
            optimizer=optimizer,
            epochs=1,
            scheduler=(scheduler, "step"),
        )


def test_a_function_of_a_schedule_that_fails_says_so_before_the_run() -> None:
    def failing(torch: Any, optimizer: Any) -> Any:
        return lambda_lr(torch, optimizer, lambda n: 1 / (2 - n))

    def wordy(torch: Any, optimizer: Any) -> Any:
        return lambda_lr(torch, optimizer, lambda n: "fast" if n else 1)

    with pytest.raises(ZeroDivisionError):
        remote(sgd, scheduler=(failing, "epoch"))
    with pytest.raises(TypeError, match="returned 'fast' for 1, not a number"):
        remote(sgd, scheduler=(wordy, "epoch"))


def test_a_scheduler_calls_its_function_again_after_a_run() -> None:
    _, stepped = build(torch, sgd)
    local_scheduler = torch.optim.lr_scheduler.LambdaLR(stepped, lambda step: 0.9**step)
    for _ in range(EPOCHS + 2):
        stepped.step()
        local_scheduler.step()
    model, optimizer = build(gradwire, sgd)
    scheduler = gradwire.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    gradwire.train(
        model,
        data(),
        loss=gradwire.nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
    )
    for _ in range(2):
        scheduler.step()
    assert scheduler.get_last_lr() == local_scheduler.get_last_lr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": (np.zeros((0, 5), np.float32), np.zeros(0, np.int64))}, "empty"),
        (
            {"data": (np.zeros((4, 5), np.float32), np.zeros(3, np.int64))},
            r"inputs \[4\], targets \[3\]",
        ),
        (
            {"data": (np.zeros((4, 5), np.float32), np.full(4, 7)), "batch_size": 2},
            r"(?s)Target 7 is out of bounds.*in step 1 \(epoch 1, batch 1\).*from 7 to 7.*classes",
        ),
        (
            {"validation": (np.zeros((4, 5), np.float32), np.full(4, -1)), "batch_size": 2},
            r"(?s)Target -1 is out of bounds.*in batch 1 of an evaluation.*from -1 to -1",
        ),
        ({"batch_size": 100}, r"batch_size is 100, but there are \d+ samples; give at most"),
        ({"loss": "mse"}, "loss is 'mse', but must be a module"),
        ({"validation": {"batch_size": 3}}, "validation has no 'data'"),
        (
            {"metrics": [("accuracy", {"taks": "binary"})]},
            "accuracy of torchmetrics refuses its arguments: .*taks",
        ),
        (
            {"data": "digits"},
            r"can't train on the text 'digits'; gradwire.datasets.get\('digits'\)",
        ),
        ({"metrics": ["zzz"]}, r"'zzz' is no metric\. There are accuracy"),
        ({"accumulate": 0}, "accumulate is 0, but must be"),
        ({"steps": -1}, "steps is -1, but must be"),
        ({"batch_size": 100, "drop_last": True}, "no full batch"),
        ({"metrics": ["acuracy"]}, "did you mean accuracy"),
        ({"early_stopping": {"patience": 2, "monitor": "nothing"}}, "none of the values there are"),
        ({"accumulate": -1}, "accumulate"),
        ({"ema": 2.0}, "moving_average.decay"),
        ({"precision": "int8"}, "precision"),
        ({"epochs": 0}, "epochs"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    model, optimizer = build(gradwire, sgd)
    options = {"data": data(), "optimizer": optimizer, "loss": gradwire.nn.CrossEntropyLoss()}
    options |= change
    with pytest.raises((ValueError, IndexError, RuntimeError, TypeError), match=message):
        gradwire.train(model, options.pop("data"), **options)
