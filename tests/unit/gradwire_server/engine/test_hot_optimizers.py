"""Steps that call torch's kernels for all tensors at once are torch's own, to the last bit."""

import itertools
from typing import Any

import pytest
import torch

from gradwire_server.engine import hot, hot_optimizers

NUM_STEPS = 6
TAKEN: dict[type[torch.optim.Optimizer], list[dict[str, Any]]] = {
    torch.optim.SGD: [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ],
    torch.optim.Adam: [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"betas": (0.5, 0.9), "eps": 1e-3},
    ],
    torch.optim.AdamW: [{}, {"weight_decay": 0.1, "betas": (0.8, 0.95)}],
}
LEFT: dict[type[torch.optim.Optimizer], list[dict[str, Any]]] = {
    torch.optim.SGD: [{"maximize": True}, {"foreach": True}, {"fused": True}],
    torch.optim.Adam: [
        *({"amsgrad": True}, {"maximize": True}, {"foreach": True}, {"fused": True}),
        {"lr": torch.tensor(0.01)},
    ],
}


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, dtype=dtype)) for s in ((3, 5), (5,), (), (0,))]


def trained(
    kind: type[torch.optim.Optimizer],
    options: dict[str, Any],
    dtype: torch.dtype,
    *,
    quick: bool,
) -> tuple[list[torch.nn.Parameter], Any, list[bool]]:
    values = parameters(dtype)
    groups: list[dict[str, Any]] = [{"params": values[:2]}, {"params": values[2:], "lr": 0.3}]
    optimizer = kind(groups, **{"lr": 0.05, **options})
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    taken = []
    for number in range(NUM_STEPS):
        for value in values:
            value.grad = torch.randn_like(value)
        # One that is left out now and then is a step behind the others.
        if number % 3 == 2:
            values[1].grad = None
        if quick:
            with torch.no_grad():
                taken.append(hot_optimizers.STEPS[kind](optimizer))
        if not quick or not taken[-1]:
            optimizer.step()
        optimizer._opt_called = True  # type: ignore[attr-defined]
        scheduler.step()
    return values, optimizer.state_dict()["state"], taken


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("kind", "options"), [(kind, each) for kind, every in TAKEN.items() for each in every]
)
def test_a_step_is_torchs_own(
    kind: type[torch.optim.Optimizer], options: dict[str, Any], dtype: torch.dtype
) -> None:
    ours, our_state, taken = trained(kind, options, dtype, quick=True)
    theirs, their_state, _ = trained(kind, options, dtype, quick=False)
    # Where there is no state yet, or parameters differ in it, torch takes the step.
    assert any(taken)
    for first, second in zip(ours, theirs, strict=True):
        assert torch.equal(first, second)
    assert our_state.keys() == their_state.keys()
    for number, name in itertools.product(our_state, next(iter(our_state.values()), ())):
        assert torch.equal(our_state[number][name], their_state[number][name])


@pytest.mark.parametrize(
    ("kind", "options"), [(kind, each) for kind, every in LEFT.items() for each in every]
)
def test_a_step_with_other_options_is_left_to_torch(
    kind: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    _, _, taken = trained(kind, options, torch.float32, quick=True)
    assert not any(taken)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_a_step_of_other_numbers_is_left_to_torch(dtype: torch.dtype) -> None:
    _, _, taken = trained(torch.optim.Adam, {}, dtype, quick=True)
    assert not any(taken)


def test_sparse_gradients_are_left_to_torch() -> None:
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    weight = embedding.weight
    torch.nn.init.ones_(weight)
    embedding(torch.tensor([1])).sum().backward()
    optimizer = torch.optim.SGD([weight], lr=0.5)
    assert not hot_optimizers.sgd(optimizer)
    hot.step(optimizer)
    assert weight[:, 0].tolist() == [1.0, 0.5, 1.0, 1.0]
