"""Replays do what was recorded, operation by operation, to the last bit."""

import gc
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from gradwire_server.engine.compiling import Replays, Step, Watched
from gradwire_server.engine.compiling.builds import Compiled
from gradwire_server.engine.compiling.capture import Captured
from gradwire_server.engine.compiling.step import FREE_LOOKS, MAX_EXACT_BYTES, RECORD_AFTER
from gradwire_server.engine.spent import Spent

CPU = torch.device("cpu")
NUM_STEPS = RECORD_AFTER + 4
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Remembering(Replays):
    """Replays that remember what they were made of."""

    def __init__(self) -> None:
        super().__init__()
        self.captured: list[Captured] = []

    def get(self, captured: Captured) -> Compiled:
        self.captured.append(captured)
        return super().get(captured)

    def names(self) -> list[str]:
        """Returns the operations of what was made first."""
        return [node["name"] for node in json.loads(self.captured[0].graph_json)["nodes"]]


class Trained:
    """A weight and a running sum that a forward pass works on, and what becomes of its steps.

    Args:
        forward: Takes the weight and an input of shape (4, 6); returns what to train on.
        replays: What replays steps; None for torch alone.
        num_steps: How many steps are taken.
        before: Called before each step with the step's number and this.
    """

    def __init__(
        self,
        forward: Callable[..., torch.Tensor],
        replays: Replays | None,
        *,
        num_steps: int = NUM_STEPS,
        before: Callable[[int, "Trained"], object] = lambda *_: None,
    ) -> None:
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(5, 6))
        self.results: list[Any] = []
        self.counts: Counter[str] = Counter()
        self.version = 0
        step = None
        if replays is not None:
            watched = Watched((), (), [self.weight], steps=False, on_gone=lambda: None)
            step = Step(watched, replays, CPU, self.counts, what="test")
        torch.manual_seed(1)
        for number in range(num_steps):
            before(number, self)
            inputs = torch.randn(4, 6)

            def function(inputs: torch.Tensor = inputs) -> Sequence[Any]:
                self.weight.grad = None
                result = forward(self.weight, inputs)
                result.square().mean().backward()
                return [result]

            taken = None if step is None else step.take([inputs], self.version, function)
            (result,) = function() if taken is None else taken
            gradient = self.weight.grad
            assert gradient is not None
            self.results += [
                result.elements if isinstance(result, Spent) else result.detach(),
                gradient.clone(),
            ]
            with torch.no_grad():
                self.weight.sub_(gradient, alpha=0.001)
        self.results.append(torch.rand(2))


def linear(weight: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    return F.linear(inputs, weight)


def in_place(weight: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    result = linear(weight, inputs) * 1.5
    result[:, 0] = 0
    result[1:3].mul_(2)
    return result.add_(1, alpha=2)


FORWARDS: dict[str, Forward] = {
    "linear": linear,
    "numbers": lambda w, x: 2 * linear(w, x) + 1 - linear(w, x) / 3.5,
    "integers": lambda w, x: linear(w, x) * torch.arange(5) + (x[:, :5] > 0),
    "dropout": lambda w, x: F.dropout(linear(w, x), 0.4),
    "normal": lambda w, x: linear(w, x) + torch.randn(4, 5) * torch.rand_like(linear(w, x)),
    "softmax": lambda w, x: F.log_softmax(linear(w, x), dim=-1, dtype=torch.float64),
    "mean": lambda w, x: linear(w, x).mean() + linear(w, x).var(0, correction=0),
    "concatenated": lambda w, x: torch.cat([linear(w, x), x, linear(w, x)], dim=1),
    "split": lambda w, x: torch.stack(linear(w, x).split(2)).sum(0),
    "chunks": lambda w, x: torch.mul(*linear(w, x)[:, :4].chunk(2, dim=-1)),
    "strides": lambda w, x: linear(w, x).t().contiguous().view(2, -1).expand(3, 2, 10),
    "padded": lambda w, x: F.pad(linear(w, x), (1, 2), value=0.5),
    "normalized": lambda w, x: F.layer_norm(linear(w, x), (5,)),
    "convolved": lambda w, x: F.conv1d(x[:, None], w[:, None, :3], padding="same"),
    "attention": lambda w, x: F.scaled_dot_product_attention(
        linear(w, x)[None], linear(w, x)[None], x[None, :, :5]
    ),
    "rounded": lambda w, x: torch.div(linear(w, x), 0.3, rounding_mode="floor") * linear(w, x),
    "chosen": lambda w, x: torch.where(x[:, :5] > 0, linear(w, x), torch.tensor(0.25)),
    "gathered": lambda w, x: linear(w, x).gather(1, x.argmax(1, keepdim=True) % 5),
    "chosen by number": lambda w, x: linear(w, x)[x.argmax(1) % 4] * x[:, x.argmax(0)[:1]],
    "half": lambda w, x: linear(w.bfloat16(), x.bfloat16()).float(),
    "channels": lambda w, x: (
        linear(w, x)[:, :4].reshape(1, 4, 2, 2).contiguous(memory_format=torch.channels_last)
    ),
    "cumulative": lambda w, x: linear(w, x).cumsum(0).clamp(min=-1, max=float("inf")),
    "in place": in_place,
}


@pytest.mark.parametrize("forward", FORWARDS.values(), ids=FORWARDS)
def test_a_replay_does_what_torch_does(forward: Forward) -> None:
    ours, theirs = Trained(forward, Replays()), Trained(forward, None)
    assert ours.counts == {"recorded": 1, "checked": 1, "replayed": NUM_STEPS - RECORD_AFTER - 1}
    for first, second in zip(ours.results, theirs.results, strict=True):
        assert torch.equal(first, second)
        assert first.stride() == second.stride()


ELSEWHERE = torch.ones(5)
LEFT: dict[str, Forward] = {
    "numbers that are read": lambda w, x: linear(w, x) * float(x[0, 0]),
    "sizes that depend on values": lambda w, x: linear(w, x)[x[:, 0] > -9],
    "a tensor from elsewhere": lambda w, x: linear(w, x) + ELSEWHERE,
}


@pytest.mark.parametrize("forward", LEFT.values(), ids=LEFT)
def test_what_can_not_be_replayed_is_left_to_torch(forward: Forward) -> None:
    ours, theirs = Trained(forward, Replays()), Trained(forward, None)
    assert ours.counts == {"refused": 1}
    assert all(map(torch.equal, ours.results, theirs.results))


def test_a_step_that_is_left_to_torch_when_it_is_recorded_is_taken_once() -> None:
    found = []
    for replays in (Replays(), None):
        total = torch.zeros(5)

        def forward(
            weight: torch.Tensor, inputs: torch.Tensor, total: torch.Tensor = total
        ) -> torch.Tensor:
            result = linear(weight, inputs)
            total.add_(result.detach().sum(0))
            return result

        trained = Trained(forward, replays)
        assert trained.counts == ({"refused": 1} if replays else {})
        found.append(total)
    assert torch.equal(*found)


def test_copies_that_only_the_recording_makes_are_left_out() -> None:
    replays = Remembering()
    Trained(linear, replays)
    names = set(replays.names())
    assert "aten.mm.default" in names
    assert names.isdisjoint(
        {"aten.copy_.default", "aten.new_empty_strided.default", "aten.detach.default"}
    )


def test_a_copy_stays_where_the_gradient_is_used_for_something_else() -> None:
    replays = Remembering()

    def forward(weight: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return (weight + weight.detach())[:4] * inputs[:, :6]

    ours, theirs = Trained(forward, replays), Trained(forward, None)
    assert ours.counts["replayed"]
    assert all(map(torch.equal, ours.results, theirs.results))


def test_sessions_that_recorded_the_same_share_what_replays_it() -> None:
    replays = Remembering()
    for _ in range(2):
        Trained(linear, replays, num_steps=RECORD_AFTER + 1)
    first, second = (Replays.get(replays, captured) for captured in replays.captured)
    assert first is second
    del first, second
    gc.collect()
    assert not replays._made


def test_a_loop_that_changes_something_in_each_step_is_left_to_torch() -> None:
    def change(_: int, trained: Trained) -> None:
        trained.version += 1
        trained.weight.data = trained.weight.detach().clone()

    num_steps = 4 * FREE_LOOKS
    ours = Trained(linear, Replays(), num_steps=num_steps, before=change)
    assert not ours.counts
    theirs = Trained(linear, None, num_steps=num_steps, before=change)
    assert all(map(torch.equal, ours.results, theirs.results))


def test_a_step_on_much_memory_is_left_to_torch() -> None:
    many = torch.nn.Parameter(torch.zeros(MAX_EXACT_BYTES // 4 + 1))
    counts: Counter[str] = Counter()
    watched = Watched((), (), [many], steps=False, on_gone=lambda: None)
    step = Step(watched, Replays(), CPU, counts, what="test")
    for _ in range(NUM_STEPS):
        assert step.take([], 0, list) is None
    assert counts == {"refused": 1}
