"""Random numbers as torch draws them: by the session, or by a generator of a local torch."""

import sys
from typing import Any

import gradwire


def torch_of(generator: Any) -> Any:
    """Returns what draws for a generator: the local torch if it is one of its, else gradwire.

    Args:
        generator: A generator of gradwire or torch; None for the session's random state.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(generator, torch.Generator):
        return torch
    return gradwire


def draw_seed(generator: Any = None) -> int:
    """Returns a new seed, drawn as torch's loaders and samplers draw theirs."""
    torch = torch_of(generator)
    drawn = torch.empty((), dtype=torch.int64).random_(generator=generator)
    return int(drawn.item())


def seeded_generator() -> Any:
    """Returns a new generator with a seed drawn from the session's random state."""
    seed = draw_seed()
    generator = gradwire.Generator()
    generator.manual_seed(seed)
    return generator


def permutation(num: int, generator: Any) -> list[int]:
    """Returns the numbers below `num` in random order."""
    torch = torch_of(generator)
    order: list[int] = torch.randperm(num, generator=generator).tolist()
    return order
