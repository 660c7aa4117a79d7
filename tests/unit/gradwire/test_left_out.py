"""What torch has and gradwire does not is named as such, with what to do instead."""

import importlib
import re

import pytest

from gradwire.left_out import LEFT_OUT


def member(root: str, path: str) -> object:
    """Returns a part of a package, imported or not."""
    value = importlib.import_module(root)
    for name in path.split("."):
        if not hasattr(value, name):
            importlib.import_module(f"{value.__name__}.{name}")
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_in_torch_and_refused_with_what_to_do(name: str) -> None:
    path = name.removeprefix("torch.")
    if name not in {"torch.utils.tensorboard", "torch.utils.cpp_extension"}:
        # These two need packages that torch does not bring.
        assert member("torch", path) is not None
    owner, _, last = path.rpartition(".")

    with pytest.raises(AttributeError, match=re.escape(f"gradwire has no {name}: ")):
        getattr(member("gradwire", owner) if owner else importlib.import_module("gradwire"), last)


def test_other_names_that_are_wrong_have_the_closest_right_ones() -> None:
    gradwire = importlib.import_module("gradwire")
    with pytest.raises(AttributeError, match="did you mean grad"):
        _ = gradwire.autograd.gard
    with pytest.raises(AttributeError, match="did you mean data"):
        _ = gradwire.utils.dta
