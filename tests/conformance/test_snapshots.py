"""Everything in torch's tables of modules and optimizers comes back from a checkpoint as it was."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as lr

from gradwire.v1 import catalog
from gradwire_server.engine.factors import Factors
from gradwire_server.engine.snapshot import Rebuilder, Snapshot, take_snapshot
from tests.conformance import modules, optimizers

MODULES = modules.entries()
OPTIMIZERS = optimizers.entries()


def rebuilt(value: Any) -> Any:
    """Returns a value as it comes back from a snapshot, sharing nothing with it."""
    snapshot = copy.deepcopy(take_snapshot(value))
    return Rebuilder(snapshot, device=torch.device("cpu")).decode(snapshot.root)


def flat(value: Any) -> list[Any]:
    """Returns the tensors and numbers in a structure."""
    if isinstance(value, dict):
        return [part for element in value.values() for part in flat(element)]
    if isinstance(value, list | tuple):
        return [part for element in value for part in flat(element)]
    return [value]


def assert_equal(one: Any, other: Any) -> None:
    """Holds that two structures have the same parts, to the last bit."""
    for left, right in zip(flat(one), flat(other), strict=True):
        if isinstance(left, torch.Tensor):
            torch.testing.assert_close(right, left, rtol=0, atol=0, equal_nan=True)
        else:
            assert left == right


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_goes_on_as_it_was(name: str) -> None:
    info = MODULES[name]
    torch.manual_seed(0)
    # The table's random samples for fractional pooling are of double precision.
    dtype = torch.float64 if "Fractional" in name else torch.float32
    samples = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=False, training=True
    )
    sample = next(iter(samples))
    made, call = sample.constructor_input, sample.forward_input
    module = info.module_cls(*made.args, **made.kwargs)
    if call is not None:
        module(*copy.deepcopy(call.args), **copy.deepcopy(call.kwargs))

    again = rebuilt(module)

    assert type(again) is type(module)
    assert repr(again) == repr(module)
    assert list(again.state_dict()) == list(module.state_dict())
    assert_equal(module.state_dict(), again.state_dict())
    if call is not None:
        outputs = []
        for each in (module, again):
            torch.manual_seed(1)
            outputs.append(each(*copy.deepcopy(call.args), **copy.deepcopy(call.kwargs)))
        assert_equal(*outputs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_as_it_was(name: str) -> None:
    info = OPTIMIZERS[name]
    options = info.optim_inputs_func(device="cpu")[0].kwargs
    torch.manual_seed(0)
    # Muon takes matrices only, and SparseAdam the sparse gradients of an embedding.
    model: torch.nn.Module = torch.nn.Linear(4, 3, bias=name != "Muon")
    inputs = torch.randn(5, 4)
    if name == "SparseAdam":
        model, inputs = torch.nn.Embedding(4, 3, sparse=True), torch.arange(4)
    kind: Any = info.optim_cls
    optimizer = kind(model.parameters(), **{"lr": 0.01, **options})

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> float:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss: torch.Tensor = model(inputs).pow(2).mean()
            loss.backward()
            return loss

        return float(optimizer.step(closure))  # type: ignore[arg-type]

    step(model, optimizer)
    model_again, optimizer_again = rebuilt((model, optimizer))

    assert step(model_again, optimizer_again) == step(model, optimizer)
    assert_equal(model.state_dict(), model_again.state_dict())
    assert_equal(optimizer.state_dict(), optimizer_again.state_dict())


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "ChainedScheduler": lambda o: lr.ChainedScheduler(
        [lr.ExponentialLR(o, 0.9), lr.StepLR(o, 2)], optimizer=o
    ),
    "ConstantLR": lambda o: lr.ConstantLR(o, total_iters=3),
    "CosineAnnealingLR": lambda o: lr.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 2),
    "CyclicLR": lambda o: lr.CyclicLR(o, 0.01, 0.1, step_size_up=2, mode="triangular2"),
    "ExponentialLR": lambda o: lr.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr.LambdaLR(o, Factors([1.0, 0.5, 0.2, 0.1, 0.05, 0.01], {}, None)),
    "LinearLR": lambda o: lr.LinearLR(o, total_iters=4),
    "MultiStepLR": lambda o: lr.MultiStepLR(o, [1, 4]),
    "MultiplicativeLR": lambda o: lr.MultiplicativeLR(o, Factors([0.9] * 6, {}, None)),
    "OneCycleLR": lambda o: lr.OneCycleLR(o, 0.1, total_steps=8),
    "PolynomialLR": lambda o: lr.PolynomialLR(o, 7),
    "ReduceLROnPlateau": lambda o: lr.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o), lr.CyclicLR(o, 0.01, 0.1, mode="exp_range", gamma=0.9)], [2]
    ),
    "StepLR": lambda o: lr.StepLR(o, 2),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01, anneal_epochs=4),
}


def test_all_schedulers_are_tried() -> None:
    assert {name.rpartition(".")[2] for name in catalog.SCHEDULERS} - {"LRScheduler"} == set(
        SCHEDULERS
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on_as_it_was(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    scheduler = SCHEDULERS[name](optimizer)
    arguments = (1.0,) if name == "ReduceLROnPlateau" else ()
    for _ in range(2):
        scheduler.step(*arguments)

    again = rebuilt(scheduler)

    for _ in range(3):
        for each in (scheduler, again):
            each.step(*arguments)
        rates = [[group["lr"] for group in o.param_groups] for o in (optimizer, again.optimizer)]
        assert rates[0] == rates[1]


def test_only_functions_of_schedulers_come_back_by_the_name_of_a_class() -> None:
    for name in ("torch.optim.lr_scheduler:CyclicLR.step", "os:system", "torch.nn:Module.eval"):
        with pytest.raises(ValueError, match="no function of a scheduler"):
            Rebuilder(Snapshot(), device=torch.device("cpu")).decode({"static": name})
