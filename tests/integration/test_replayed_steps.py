"""Steps that come again and again are replayed without autograd, and stay torch's to the last bit.

Each program trains for more steps than it takes until steps are replayed, and does something on the
way that a replay must not miss.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import gradwire
from gradwire_server.engine.compiling.step import RECORD_AFTER
from tests.integration.test_metrics import Watched
from tests.parity.comparing import assert_same
from tests.parity.programs import attempt

NUM_STEPS = RECORD_AFTER + 12
LATER = RECORD_AFTER + 6
SIZES = (8, 5, 8, 3)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(tmp_path_factory.mktemp("replayed"))
    with watched.server:
        yield watched


def net(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        *(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 4))
    )


def batch(torch: Any, size: int = 8) -> tuple[Any, Any]:
    return torch.randn(size, 6), torch.randint(0, 4, (size,))


def everything(model: Any, *others: Any) -> list[Any]:
    """Returns all there is to compare of a model."""
    return [model.state_dict(), [parameter.grad for parameter in model.parameters()], *others]


class Loop:
    """A training loop that stops now and then, for a program to do something else.

    Args:
        torch: The module that it knows as torch.
        make: Makes the optimizer of some parameters.
    """

    def __init__(self, torch: Any, make: Callable[..., Any] | None = None) -> None:
        self.torch = torch
        self.model = net(torch)
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer = (make or torch.optim.Adam)(self.model.parameters(), lr=0.01)
        self.losses: list[Any] = []

    def step(self, inputs: Any, labels: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(inputs), labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def train(self, num_steps: int = NUM_STEPS, size: int = 8) -> None:
        for _ in range(num_steps):
            self.losses.append(self.step(*batch(self.torch, size)).item())

    def result(self) -> list[Any]:
        # What was drawn shows in what is drawn next.
        return everything(self.model, self.losses, self.torch.rand(3))


def reads_no_loss_on_the_way(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    losses = [loop.step(inputs, labels) for _ in range(NUM_STEPS)]
    return [*loop.result(), *losses]


def steps_with_momentum_and_clipping(torch: Any) -> Any:
    model = net(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    inputs, labels = batch(torch)
    norms = []
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5))
        optimizer.step()
    return everything(model, norms)


def changes_the_learning_rate_in_each_step(torch: Any) -> Any:
    loop = Loop(torch, torch.optim.SGD)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(loop.optimizer, 0.2, total_steps=NUM_STEPS)
    for _ in range(NUM_STEPS):
        loop.train(1)
        scheduler.step()
    return [*loop.result(), scheduler.get_last_lr()]


def evaluates_in_between(torch: Any) -> Any:
    loop = Loop(torch)
    found = []
    for _ in range(4):
        loop.train(NUM_STEPS // 2)
        loop.model.eval()
        with torch.no_grad():
            found.append(loop.model(batch(torch)[0]))
        loop.model.train()
    return [*loop.result(), *found]


def trains_in_evaluation_mode_later(torch: Any) -> Any:
    loop = Loop(torch)
    loop.train()
    loop.model.eval()
    loop.train()
    return loop.result()


def freezes_and_thaws(torch: Any) -> Any:
    loop = Loop(torch)
    for trainable in (True, False, True):
        loop.model[0].requires_grad_(trainable)
        loop.train()
    return loop.result()


def has_batches_of_several_sizes(torch: Any) -> Any:
    loop = Loop(torch)
    for number in range(NUM_STEPS * len(SIZES)):
        loop.train(1, SIZES[number % len(SIZES)])
    return loop.result()


def replaces_parameters_and_layers(torch: Any) -> Any:
    loop = Loop(torch, torch.optim.SGD)
    loop.train()
    loop.model[4].weight.data = torch.ones(4, 8)
    with torch.no_grad():
        loop.model[0].weight.mul_(2)
    loop.train()
    loop.model[2] = torch.nn.Tanh()
    loop.train()
    return loop.result()


def adds_a_gradient_between_two_steps(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    for number in range(NUM_STEPS):
        if number == LATER:
            loop.loss(loop.model(inputs), labels).backward()
        # Gradients are cleared after the step, not before.
        loss = loop.loss(loop.model(inputs), labels)
        loss.backward()
        loop.losses.append(loss.item())
        loop.optimizer.step()
        loop.optimizer.zero_grad()
    return loop.result()


def meets_a_wrong_label_and_goes_on(torch: Any) -> Any:
    loop = Loop(torch)
    loop.train()
    inputs, labels = batch(torch)
    labels[3] = 9
    attempt(lambda: loop.step(inputs, labels).item())
    loop.train()
    return loop.result()


def once_more(loss: Any) -> float:
    loss.backward()
    return float(loss.item())


def prints_what_is_left_of_a_step(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    loss: Any = None
    outputs: Any = None
    for _ in range(NUM_STEPS):
        loop.optimizer.zero_grad()
        outputs = loop.model(inputs)
        loss = loop.loss(outputs, labels)
        loss.backward()
        loop.optimizer.step()
    print(loss, outputs, loss.requires_grad, loss.is_leaf)
    print(outputs[0], (loss + 1).detach(), loop.model[0].weight.grad)
    for again in (loss, outputs.sum()):
        attempt(partial(once_more, again))
        attempt(partial(torch.autograd.grad, again, list(loop.model.parameters())))
    total = 0.0
    for _ in range(3):
        total = total + loop.step(inputs, labels)
    print(total)
    return loop.result()


def fails_between_backward_and_step(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    clip = partial(torch.nn.utils.clip_grad_norm_, error_if_nonfinite=True)

    def end_step(loss: Any) -> float:
        clip(loop.model.parameters(), 1.0)
        loop.optimizer.step()
        return float(loss.item())

    for number in range(NUM_STEPS):
        if number == LATER:
            inputs = inputs * float("inf")
        loop.optimizer.zero_grad()
        outputs = loop.model(inputs)
        loss = loop.loss(outputs, labels)
        loss.backward()
        attempt(partial(end_step, loss))
        if number == LATER:
            print(loss, outputs)
            inputs = batch(torch)[0]
    return loop.result()


def keeps_what_shares_memory(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    kept = []
    for _ in range(NUM_STEPS):
        loop.optimizer.zero_grad()
        loss = loop.loss(loop.model(inputs), labels)
        kept.append((loss, loss.detach()))
        loss.backward()
        loop.optimizer.step()
    loss, detached = kept[-1]
    detached.mul_(2)
    return [loss, detached, [each for each, _ in kept], loop.result()]


def has_two_losses_in_a_step(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    for _ in range(NUM_STEPS):
        loop.optimizer.zero_grad()
        loop.loss(loop.model(inputs), labels).backward()
        (loop.model(inputs).square().mean() * 0.1).backward()
        loop.optimizer.step()
    return loop.result()


def wants_the_gradient_of_its_input(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    inputs.requires_grad_()
    for _ in range(NUM_STEPS):
        inputs.grad = None
        loop.step(inputs, labels)
    return [inputs.grad, *loop.result()]


def takes_rows_of_a_large_tensor(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = torch.randn(1_500_000, 6), torch.randint(0, 4, (1_500_000,))
    for rows in torch.randperm(8 * NUM_STEPS).split(8):
        loop.losses.append(loop.step(inputs[rows], labels[rows]).item())
    return loop.result()


def trains_a_shared_embedding(torch: Any) -> Any:
    embedding = torch.nn.Embedding(9, 5)
    output = torch.nn.Linear(5, 9, bias=False)
    output.weight = embedding.weight
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.01)
    for number in range(NUM_STEPS):
        words = torch.tensor([number % 9, 2, 3, 3])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(output(embedding(words)), words).backward()
        optimizer.step()
    attempt(lambda: embedding(torch.tensor([9])).sum().item())
    return everything(embedding)


REPLAYED = (
    *(reads_no_loss_on_the_way, steps_with_momentum_and_clipping),
    *(changes_the_learning_rate_in_each_step, evaluates_in_between),
    *(trains_in_evaluation_mode_later, freezes_and_thaws, has_batches_of_several_sizes),
    *(replaces_parameters_and_layers, adds_a_gradient_between_two_steps),
    *(meets_a_wrong_label_and_goes_on, prints_what_is_left_of_a_step, keeps_what_shares_memory),
    *(fails_between_backward_and_step, takes_rows_of_a_large_tensor),
    *(has_two_losses_in_a_step, wants_the_gradient_of_its_input, trains_a_shared_embedding),
)


def accumulates_gradients(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    for number in range(NUM_STEPS):
        loop.loss(loop.model(inputs), labels).backward()
        if number % 4 == 3:
            loop.optimizer.step()
            loop.optimizer.zero_grad()
    return loop.result()


def keeps_its_graph(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    for _ in range(NUM_STEPS):
        loop.optimizer.zero_grad()
        loss = loop.loss(loop.model(inputs), labels)
        loss.backward(retain_graph=True)
        loss.backward()
        loop.optimizer.step()
    return loop.result()


def keeps_the_gradient_of_a_result(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    outputs: Any = None
    for _ in range(NUM_STEPS):
        loop.optimizer.zero_grad()
        outputs = loop.model(inputs)
        outputs.retain_grad()
        loop.loss(outputs, labels).backward()
        loop.optimizer.step()
    return [outputs.grad, *loop.result()]


def has_a_loss_that_can_be_used_twice(torch: Any) -> Any:
    weight = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loss: Any = None
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        loss = weight.sum()
        loss.backward()
        optimizer.step()
    loss.backward()
    return [weight, weight.grad, loss]


def looks_for_anomalies(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    with torch.autograd.set_detect_anomaly(True):
        for _ in range(NUM_STEPS):
            loop.step(inputs, labels)
        inputs = inputs.log()
        attempt(lambda: loop.step(inputs, labels).item())
    return loop.result()


LEFT_TO_TORCH = (
    *(accumulates_gradients, keeps_its_graph, keeps_the_gradient_of_a_result),
    *(has_a_loss_that_can_be_used_twice, looks_for_anomalies),
)


def can_not_be_compiled(torch: Any) -> Any:
    loop = Loop(torch)
    inputs, labels = batch(torch)
    for _ in range(NUM_STEPS):
        loop.optimizer.zero_grad()
        chosen = loop.model(inputs).log_softmax(1).gather(1, labels[:, None])
        (-chosen.mean()).backward()
        loop.optimizer.step()
    return loop.result()


def replayed(watched: Watched, program: Callable[[Any], Any], *, exact: bool = True) -> float:
    """Compares a program with torch; returns how many of its steps were replayed."""
    before = watched.total("gradwire_replayed_steps_total", outcome="replayed")
    with gradwire.connect(watched.server.address, exact=exact):
        assert_same(program)
    return watched.total("gradwire_replayed_steps_total", outcome="replayed") - before


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("program", REPLAYED, ids=lambda program: program.__name__)
def test_a_program_whose_steps_are_replayed(
    watched: Watched, program: Callable[[Any], Any]
) -> None:
    assert replayed(watched, program)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("program", LEFT_TO_TORCH, ids=lambda program: program.__name__)
def test_a_program_whose_steps_are_left_to_torch(
    watched: Watched, program: Callable[[Any], Any]
) -> None:
    assert not replayed(watched, program)


def test_a_step_that_need_not_be_exact_is_replayed_if_it_can_not_be_compiled(
    watched: Watched,
) -> None:
    assert replayed(watched, can_not_be_compiled, exact=False)


def test_a_run_that_is_exact_is_replayed_and_does_what_a_loop_does(watched: Watched) -> None:
    def trained(model: Any) -> bytes:
        return b"".join(value.numpy().tobytes() for value in model.state_dict().values())

    inputs = np.random.default_rng(0).standard_normal((NUM_STEPS * 8, 6)).astype(np.float32)
    labels = np.arange(NUM_STEPS * 8) % 4
    torch.manual_seed(0)
    loop = Loop(torch)
    samples = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels))
    for some_inputs, some_labels in DataLoader(samples, batch_size=8):
        loop.step(some_inputs, some_labels)
    before = watched.total("gradwire_replayed_steps_total", outcome="replayed")
    with gradwire.connect(watched.server.address):
        gradwire.manual_seed(0)
        model = net(gradwire)
        optimizer = gradwire.optim.Adam(model.parameters(), lr=0.01)
        gradwire.train(
            model,
            (inputs, labels),
            loss=gradwire.nn.CrossEntropyLoss(),
            optimizer=optimizer,
            steps=NUM_STEPS,
            batch_size=8,
            shuffle=False,
            exact=True,
            progress=False,
        )
        assert trained(model) == trained(loop.model)
    after = watched.total("gradwire_replayed_steps_total", outcome="replayed")
    assert after - before > NUM_STEPS // 2


def test_nothing_is_replayed_that_computes_something_else(watched: Watched) -> None:
    assert not watched.total("gradwire_replayed_steps_total", outcome="mismatched")


def test_replaying_can_be_turned_off(tmp_path: Path) -> None:
    config = tmp_path / "gradwire.yaml"
    config.write_text("replay_steps: false\n", encoding="utf-8")
    watched = Watched(tmp_path, config=config)
    with watched.server:
        assert not replayed(watched, reads_no_loss_on_the_way)
