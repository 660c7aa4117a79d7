"""Steps that are recorded, and then taken by what was recorded, do what torch does.

What is recorded is run by torch.fx here, which takes no compiler; the builder's own tests compile.
"""

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gradwire.v1 import catalog
from gradwire_server.engine.compiling import Builds, Step, Watched
from gradwire_server.engine.compiling.builds import Compiled
from gradwire_server.engine.compiling.capture import Captured
from gradwire_server.engine.compiling.graph import Graph
from gradwire_server.engine.compiling.modules import to_module
from gradwire_server.engine.compiling.step import (
    MAX_VARIANTS,
    NUM_COMPARED,
    RECORD_AFTER,
    RECORD_EARLY_AFTER,
)

CPU = torch.device("cpu")
READS_ITS_STATE = {"Adafactor"}
"""Optimizers that read tensors as numbers, which a compiled step can't."""
OPTIMIZERS = sorted(
    {name.removeprefix("torch.optim.") for name in catalog.OPTIMIZERS}
    - {"LBFGS", "SparseAdam", "Muon"}
)


class Clock:
    """Tells a time that passes when it is told to.

    Attributes:
        now: The time.
    """

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Interpreted:
    """Runs what was recorded by torch.fx, operation by operation."""

    def __init__(self, graph_json: str, error: float, take_time: Callable[[], None]) -> None:
        self.is_faster: bool | None = None
        self._module = to_module(Graph.from_json(graph_json))
        self._error = error
        self._take_time = take_time

    def __call__(self, tensors: list[torch.Tensor], /) -> Sequence[torch.Tensor]:
        self._take_time()
        with torch.no_grad():
            outputs = self._module(*tensors)
            return [o + self._error if o.is_floating_point() else o for o in outputs]


class Interpreter:
    """Makes what runs recordings; equal ones are run by the same.

    Args:
        error: What is added to the outputs.
        seconds: How long each run takes, by the clock; torch takes a second.

    Attributes:
        clock: The clock.
        num_made: How many were made.
        seconds: As given.
    """

    exact = False
    is_timed = True

    def __init__(self, error: float = 0.0, seconds: float = 0.0) -> None:
        self.clock = Clock()
        self.num_made = 0
        self._error = error
        self.seconds = seconds
        self._made: dict[str, Interpreted] = {}

    def require_possible(self) -> None:
        """It is always possible."""

    def get(self, captured: Captured) -> Compiled:
        """Returns what runs a recording."""
        text = captured.graph_json
        if text not in self._made:
            self.num_made += 1
            self._made[text] = Interpreted(text, self._error, self._take_time)
        return self._made[text]

    def _take_time(self) -> None:
        self.clock.now += self.seconds


class Loop:
    """A training loop whose steps may be recorded.

    Args:
        model: The model.
        optimizer: Its optimizer.
        backend: What runs recorded steps; None for torch alone.
        clip: To which norm gradients are clipped; None for not.
        guarded: See `Step`.
        zeroes: Whether gradients are cleared before each step.
        num_steps: See `Step`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        backend: Any = None,
        *,
        clip: float | None = None,
        guarded: bool = False,
        zeroes: bool = True,
        num_steps: int = 0,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.version = 0
        self.counts: Counter[str] = Counter()
        self._clip, self._guarded, self._zeroes = clip, guarded, zeroes
        self._step = None
        self._clock = getattr(backend, "clock", Clock())
        if backend is not None:
            watched = Watched([model], [optimizer], on_gone=lambda: step.clear())  # noqa: PLW0108
            self._step = step = Step(
                watched,
                backend,
                CPU,
                self.counts,
                what="test",
                guarded=guarded,
                keeps_gradients=not guarded,
                num_steps=num_steps,
                clock=self._clock,
            )

    @property
    def step(self) -> Step:
        """The step."""
        assert self._step is not None
        return self._step

    def take(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        """Takes a step; returns the loss, or None if the step was left out."""

        def function() -> Sequence[torch.Tensor]:
            self._clock.now += 1.0
            if self._zeroes:
                self.optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(self.model(inputs), targets)
            loss.backward()
            if self._clip is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
            self.optimizer.step()
            return [loss.detach(), loss.detach().isfinite()]

        taken = (
            None
            if self._step is None
            else self.step.take([inputs, targets], self.version, function)
        )
        if taken is None and self._guarded and not inputs.isfinite().all():
            return None
        return (function() if taken is None else taken)[0]


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 8, bias=False),
        torch.nn.BatchNorm1d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.25),
        torch.nn.Linear(8, 1),
    )


def first(model: torch.nn.Module) -> torch.nn.Module:
    return next(model.children())


def adam(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)


def batches(count: int, size: int = 16) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        inputs = torch.randn(size, 3, generator=generator)
        yield inputs, inputs.sum(1, keepdim=True)


def run(
    loop: Loop, *, num_steps: int = RECORD_AFTER + 12, between: Callable[[Loop, int], None] = print
) -> list[torch.Tensor]:
    """Trains; returns losses, weights, buffers and gradients."""
    torch.manual_seed(2)
    losses = []
    for number, (inputs, targets) in enumerate(batches(num_steps)):
        if between is not print:
            between(loop, number)
        loss = loop.take(inputs, targets)
        assert loss is not None
        losses.append(loss)
    state = [value.detach().clone() for value in loop.model.state_dict().values()]
    gradients = [p.grad for p in loop.model.parameters() if p.grad is not None]
    return [*losses, *state, *gradients]


def assert_same(
    make: Callable[[Any], Loop],
    *,
    between: Callable[[Loop, int], None] = print,
    outcomes: Sequence[str] = ("recorded", "checked", "compiled"),
) -> Loop:
    """Checks that a loop does with recorded steps what it does without; returns it."""
    loop = make(Interpreter())
    found = run(loop, between=between)
    assert {name for name, count in loop.counts.items() if count} == set(outcomes)
    expected = run(make(None), between=between)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    return loop


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_does_in_recorded_steps_what_it_does_in_torch(name: str) -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, getattr(torch.optim, name)(model.parameters(), lr=0.01), backend)

    refused = name in READS_ITS_STATE
    assert_same(make, outcomes=["refused"] if refused else ["recorded", "checked", "compiled"])


def test_clipped_gradients_are_clipped_in_recorded_steps() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend, clip=0.1)

    assert_same(make)


def test_a_learning_rate_changes_without_another_recording() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend)

    def change(loop: Loop, number: int) -> None:
        loop.optimizer.param_groups[0]["lr"] = 0.01 / (1 + number % 5)

    assert assert_same(make, between=change).counts["recorded"] == 1


def test_a_switch_to_evaluation_is_noticed_and_back() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend)

    def switch(loop: Loop, number: int) -> None:
        if number in (RECORD_AFTER + 4, RECORD_AFTER + 8):
            loop.model.train(not loop.model.training)
            loop.version += 1

    assert_same(make, between=switch)


def test_frozen_parameters_stay_as_they_are_and_get_no_gradient() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        first(model).requires_grad_(False)
        return Loop(model, adam(model), backend)

    loop = assert_same(make)
    assert first(loop.model).weight.grad is None


def test_thawing_parameters_is_noticed() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        optimizer = adam(model)
        first(model).requires_grad_(False)
        return Loop(model, optimizer, backend)

    def thaw(loop: Loop, number: int) -> None:
        if number == RECORD_AFTER + 4:
            first(loop.model).requires_grad_(True)
            loop.version += 1

    assert_same(make, between=thaw)


def test_steps_that_add_to_gradients_stay_eager() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend, zeroes=False)

    assert_same(make, outcomes=["refused"])


def test_another_size_is_another_recording_up_to_a_number() -> None:
    model = net()
    backend = Interpreter()
    loop = Loop(model, adam(model), backend)
    for size in range(2, 2 + MAX_VARIANTS + 3):
        for inputs, targets in batches(RECORD_AFTER + 2, size):
            loop.take(inputs, targets)
    assert loop.counts["recorded"] == MAX_VARIANTS
    assert backend.num_made == MAX_VARIANTS


def test_a_step_that_fails_when_it_is_recorded_has_changed_nothing() -> None:
    model = net()
    loop = Loop(model, adam(model), Interpreter())
    run(loop, num_steps=RECORD_AFTER - 1)
    before = [value.clone() for value in model.state_dict().values()]
    inputs, _ = next(batches(1))

    def function() -> Sequence[Any]:
        loss = model(inputs).square().mean()
        loss.backward()
        loop.optimizer.step()
        raise RuntimeError("midway")

    assert loop.step.take([inputs, inputs[:, :1].clone()], 0, function) is None
    torch.testing.assert_close([*model.state_dict().values()], before, rtol=0, atol=0)
    assert loop.counts["failed"] == 1


def test_what_computes_something_else_is_not_switched_to() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend)

    loop = make(Interpreter(error=0.01))
    found = run(loop)
    assert loop.counts == {"recorded": 1, "mismatched": 1}
    torch.testing.assert_close(found, run(make(None)), rtol=1e-3, atol=1e-4)


def test_what_is_slower_than_torch_is_not_switched_to() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend)

    backend = Interpreter(seconds=1.5)
    loop = make(backend)
    num_steps = (1 + NUM_COMPARED) * RECORD_AFTER
    found = run(loop, num_steps=num_steps)
    assert loop.counts == {"recorded": 1, "checked": NUM_COMPARED, "slower": 1}
    torch.testing.assert_close(found, run(make(None), num_steps=num_steps), rtol=1e-3, atol=1e-4)
    other = make(backend)
    run(other)
    assert other.counts == {"recorded": 1, "slower": 1}


def test_what_was_slower_once_is_compared_again() -> None:
    model = net()
    backend = Interpreter(seconds=1.5)
    loop = Loop(model, adam(model), backend)
    run(loop)
    assert loop.counts == {"recorded": 1, "checked": 1}
    backend.seconds = 0.5
    run(loop)
    assert loop.counts["checked"] == 2
    assert loop.counts["compiled"]


def test_the_same_step_of_another_model_is_neither_made_nor_compared_again() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend)

    backend = Interpreter()
    run(make(backend))
    loop = make(backend)
    found = run(loop)
    assert loop.counts["recorded"] == 1
    assert not loop.counts["checked"]
    assert loop.counts["compiled"] == 12
    assert backend.num_made == 1
    torch.testing.assert_close(found, run(make(None)), rtol=1e-3, atol=1e-4)


def test_a_step_that_will_come_often_is_recorded_early() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend, num_steps=RECORD_AFTER + 12)

    loop = make(Interpreter())
    found = run(loop)
    assert loop.counts["compiled"] == RECORD_AFTER + 12 - RECORD_EARLY_AFTER - 1
    torch.testing.assert_close(found, run(make(None)), rtol=1e-3, atol=1e-4)
    for inputs, targets in batches(RECORD_AFTER - 1, 5):
        loop.take(inputs, targets)
    assert loop.counts["recorded"] == 1


def test_a_guarded_step_changes_nothing_if_its_loss_is_not_finite() -> None:
    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend, guarded=True)

    loop = make(Interpreter())
    run(loop)
    assert loop.counts["compiled"]
    before = [value.clone() for value in loop.model.state_dict().values()]
    random_state = torch.get_rng_state()
    inputs, targets = next(batches(1))
    inputs[3, 1] = torch.nan
    assert loop.take(inputs, targets) is None
    torch.testing.assert_close([*loop.model.state_dict().values()], before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_compiled_step_does_not_keep_its_model_alive() -> None:
    model = net()
    loop = Loop(model, adam(model), Interpreter())
    run(loop)
    step = loop.step
    gone = [weakref.ref(parameter) for parameter in model.parameters()]
    del model, loop
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)
    assert step.take([torch.ones(1)], 0, list) is None


def test_without_a_compiler_steps_stay_eager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    builds = Builds(tmp_path, num_threads=1)

    def make(backend: Any) -> Loop:
        model = net()
        return Loop(model, adam(model), backend)

    loop = make(builds)
    found = run(loop)
    assert loop.counts == {"failed": 1}
    torch.testing.assert_close(found, run(make(None)), rtol=0, atol=0)
