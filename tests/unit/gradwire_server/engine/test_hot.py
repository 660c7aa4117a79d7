"""The shortcuts of a training step do what torch's own calls do, to the last bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gradwire.v1 import catalog
from gradwire_server.engine import hot

OPTIMIZERS = {
    name.removeprefix("torch.optim."): getattr(torch.optim, name.removeprefix("torch.optim."))
    for name in catalog.OPTIMIZERS
    if name not in {"torch.optim.LBFGS", "torch.optim.SparseAdam", "torch.optim.Muon"}
}


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))


def trained(
    kind: type[torch.optim.Optimizer],
    *,
    call: Callable[..., Any],
    backward: Callable[..., Any],
    step: Callable[..., Any],
    zero_grad: Callable[..., Any],
) -> list[torch.Tensor]:
    model = net()
    optimizer = kind(model.parameters(), lr=0.01)  # type: ignore[call-arg]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    inputs = torch.randn(4, 3)
    for _ in range(5):
        zero_grad(optimizer)
        value = inputs
        for layer in model.children():
            value = call(layer, value)
        backward(value.square().mean())
        step(optimizer)
        scheduler.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_with_shortcuts_equals_training_without(
    kind: type[torch.optim.Optimizer],
) -> None:
    ours = trained(
        kind, call=hot.call, backward=hot.backward, step=hot.step, zero_grad=hot.zero_grad
    )
    theirs = trained(
        kind,
        call=lambda module, value: module(value),
        backward=torch.Tensor.backward,
        step=lambda optimizer: optimizer.step(),
        zero_grad=lambda optimizer: optimizer.zero_grad(),
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4, 2), (4, 1), (2,)])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_the_shortcut_of_a_loss_equals_the_loss(reduction: str, shape: tuple[int, ...]) -> None:
    criterion = torch.nn.MSELoss(reduction=reduction)
    target = torch.randn(shape)
    ours = torch.randn(4, 2).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    first, second = hot.call(criterion, ours, target), criterion(theirs, target)
    first.sum().backward()
    second.sum().backward()
    assert torch.equal(first, second)
    assert str(first.grad_fn).split()[0] == str(second.grad_fn).split()[0]
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("arguments", [(), (1.0, 2.0), (torch.ones(2),), (torch.ones(2), None)])
def test_the_shortcut_of_a_loss_leaves_errors_to_torch(arguments: tuple[Any, ...]) -> None:
    criterion = torch.nn.MSELoss()
    with pytest.raises((TypeError, AttributeError)) as theirs:
        criterion(*arguments)
    with pytest.raises((TypeError, AttributeError)) as ours:
        hot.call(criterion, *arguments)
    assert str(ours.value) == str(theirs.value)


def test_every_shortcut_stands_for_a_name_of_the_catalog() -> None:
    assert {*catalog.METHODS, *catalog.OBJECT_METHODS} >= hot.CALLS.keys()


def test_hooks_of_a_module_are_called() -> None:
    layer, seen = torch.nn.Linear(3, 2), []
    layer.register_forward_hook(lambda *_: seen.append("forward"))
    hot.call(layer, torch.ones(3))
    assert seen == ["forward"]


def test_hooks_of_an_optimizer_are_called() -> None:
    model = net()
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.1), []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    hot.step(optimizer)
    assert seen == ["before", "after"]


def test_a_weight_that_is_computed_is_used() -> None:
    layer = torch.nn.Linear(3, 2, bias=False)
    torch.nn.utils.parametrizations.weight_norm(layer)
    features = torch.ones(3)
    assert torch.equal(hot.call(layer, features), layer(features))
    plain = torch.nn.Linear(3, 2, bias=False)
    weight = plain.weight.detach() * 2
    del plain.weight
    plain.weight = weight
    assert torch.equal(hot.call(plain, features), plain(features))


def test_a_closure_is_called() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert hot.step(optimizer, lambda: torch.tensor(3.0)).item() == 3.0


def test_a_scheduler_knows_that_a_step_was_taken() -> None:
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    hot.step(optimizer)
    scheduler.step()  # warns, which fails the test, if it comes before the first step


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_are_cleared(set_to_none: bool) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(3)).sum().backward()
    hot.zero_grad(optimizer, set_to_none)
    for parameter in model.parameters():
        if set_to_none:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            assert not parameter.grad.any()


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        (lambda x: x.sum(), {"retain_graph": True}),
        (lambda x: x * 2, {"gradient": torch.ones(3)}),
        (lambda x: x.square().sum(), {"create_graph": False, "inputs": None}),
        (lambda x: (x * 1j).real.sum(), {}),
    ],
)
def test_backward_takes_what_torchs_takes(value: Any, arguments: dict[str, Any]) -> None:
    ours, theirs = (torch.arange(3.0, requires_grad=True) for _ in range(2))
    hot.backward(value(ours), **arguments)
    value(theirs).backward(**arguments)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x * 2,
        lambda x: x.detach().sum(),
        lambda x: (x * 1j).sum(),
    ],
)
def test_backward_refuses_what_torchs_refuses(value: Any) -> None:
    x = torch.arange(3.0, requires_grad=True)
    with pytest.raises(RuntimeError) as theirs:
        value(x).backward()
    with pytest.raises(RuntimeError) as ours:
        hot.backward(value(x))
    assert str(ours.value) == str(theirs.value)
