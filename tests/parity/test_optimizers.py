"""Optimizers, learning rate schedulers and gradient clipping."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.parity.comparing import assert_same

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.5, "centered": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adadelta", {}),
    ("ASGD", {"lr": 0.05}),
]
"""Of the eight optimizers that the notebook lists, the seven without a closure."""

SCHEDULERS: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda scheduler, optimizer: scheduler.StepLR(optimizer, step_size=3, gamma=0.5),
    "MultiStepLR": lambda scheduler, optimizer: scheduler.MultiStepLR(optimizer, [2, 5]),
    "ExponentialLR": lambda scheduler, optimizer: scheduler.ExponentialLR(optimizer, gamma=0.9),
    "CosineAnnealingLR": lambda scheduler, optimizer: scheduler.CosineAnnealingLR(
        optimizer, T_max=8
    ),
    "OneCycleLR": lambda scheduler, optimizer: scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=8
    ),
}


def problem(torch: Any) -> tuple[Any, Any, Any]:
    """Returns a model, inputs and targets."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    return model, torch.randn(8, 3), torch.randn(8, 1)


def take_step(torch: Any, model: Any, optimizer: Any, inputs: Any, targets: Any) -> Any:
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_twenty_steps_change_parameters_as_torch_does(name: str, options: dict[str, Any]) -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = getattr(torch.optim, name)(model.parameters(), **options)
        print(optimizer)
        losses = [take_step(torch, model, optimizer, inputs, targets).item() for _ in range(20)]
        return losses, model.state_dict()

    assert_same(program)


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_lbfgs_calls_its_closure_as_often_as_with_torch(line_search_fn: str | None) -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.LBFGS(
            model.parameters(), lr=0.5, max_iter=5, line_search_fn=line_search_fn
        )
        print(optimizer)
        losses = []

        def closure() -> Any:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            losses.append(loss.item())
            return loss

        returned = [optimizer.step(closure).item() for _ in range(4)]
        return returned, losses, model.state_dict()

    assert_same(program)


def test_other_optimizers_take_a_closure_too() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def closure() -> Any:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            return loss

        returned = [optimizer.step(closure) for _ in range(3)]
        return returned, model.state_dict()

    assert_same(program)


def test_step_without_gradients_changes_nothing() -> None:
    def program(torch: Any) -> Any:
        model, _, _ = problem(torch)
        torch.optim.Adam(model.parameters()).step()
        return model.state_dict()

    assert_same(program)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_changes_learning_rates_as_torch_does(name: str) -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = SCHEDULERS[name](torch.optim.lr_scheduler, optimizer)
        rates = []
        for _ in range(7):
            take_step(torch, model, optimizer, inputs, targets)
            scheduler.step()
            rates.append((scheduler.get_last_lr(), optimizer.param_groups[0]["lr"]))
        return rates, model.state_dict()

    assert_same(program)


def test_reduce_on_plateau_takes_the_metric_as_tensor_or_number() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.1)
        rates = []
        for epoch in range(12):
            loss = take_step(torch, model, optimizer, inputs, targets)
            scheduler.step(loss.item() if epoch % 2 else loss.detach())
            rates.append(optimizer.param_groups[0]["lr"])
        return rates, model.state_dict()

    assert_same(program)


def test_learning_rates_can_be_set_by_hand() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for epoch in range(4):
            take_step(torch, model, optimizer, inputs, targets)
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
                group["weight_decay"] = 0.1 * epoch
        print(optimizer)
        return optimizer.param_groups[0]["lr"], model.state_dict()

    assert_same(program)


def test_parameter_groups_have_options_of_their_own() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.SGD(
            [
                {"params": model[0].parameters()},
                {"params": [model[2].weight], "lr": 0.5, "momentum": 0.9},
            ],
            lr=0.01,
        )
        optimizer.add_param_group({"params": model[2].bias, "lr": 0.2})
        for _ in range(3):
            take_step(torch, model, optimizer, inputs, targets)
        print(optimizer)
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        return sizes, [group["lr"] for group in optimizer.param_groups], model.state_dict()

    assert_same(program)


def test_one_optimizer_trains_two_models() -> None:
    def program(torch: Any) -> Any:
        encoder, decoder = torch.nn.Linear(4, 2), torch.nn.Linear(2, 4)
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
        x = torch.randn(6, 4)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = ((decoder(torch.relu(encoder(x))) - x) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss)
        return losses, encoder.state_dict(), decoder.state_dict()

    assert_same(program)


def test_the_state_of_an_optimizer_can_be_carried_over() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(3):
            take_step(torch, model, optimizer, inputs, targets)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
        resumed = torch.optim.Adam(model.parameters(), lr=0.5)
        resumed.load_state_dict(optimizer.state_dict())
        again = torch.optim.lr_scheduler.StepLR(resumed, step_size=5)
        again.load_state_dict(scheduler.state_dict())
        for _ in range(3):
            take_step(torch, model, resumed, inputs, targets)
            again.step()
        print(resumed, optimizer.state_dict())
        return again.get_last_lr(), model.state_dict()

    assert_same(program)


def test_gradients_are_clipped_by_norm() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        (100 * torch.nn.functional.mse_loss(model(inputs), targets)).backward()
        total = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        print(total)
        return total, [parameter.grad for parameter in model.parameters()]

    assert_same(program)


def test_gradients_are_clipped_by_value() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        (100 * torch.nn.functional.mse_loss(model(inputs), targets)).backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=0.5)
        return [parameter.grad for parameter in model.parameters()]

    assert_same(program)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_leaves_none_or_zeros(set_to_none: bool) -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        take_step(torch, model, optimizer, inputs, targets)
        optimizer.zero_grad(set_to_none=set_to_none)
        by_optimizer = [parameter.grad for parameter in model.parameters()]
        take_step(torch, model, optimizer, inputs, targets)
        model.zero_grad(set_to_none=set_to_none)
        return by_optimizer, [parameter.grad for parameter in model.parameters()]

    assert_same(program)


def test_gradients_accumulate_until_they_are_cleared() -> None:
    def program(torch: Any) -> Any:
        model, inputs, targets = problem(torch)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for part in range(4):
            rows = slice(2 * part, 2 * part + 2)
            loss = torch.nn.functional.mse_loss(model(inputs[rows]), targets[rows]) / 4
            loss.backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        optimizer.step()
        return gradients, model.state_dict()

    assert_same(program)
