"""Everything in torch's tables of modules and optimizers comes back from a checkpoint as it was."""

import copy
from typing import Any

import pytest
import torch

from gradwire_server.engine.snapshot import Rebuilder, take_snapshot
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
