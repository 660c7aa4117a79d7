"""Random numbers: the session's own, and generators beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradwire.calls import RemoteObject, wrap
from gradwire.connection import current_session
from gradwire.tensors import Tensor
from gradwire.types import device


class Generator(RemoteObject):
    """A source of random numbers of its own, on the server.

    Args:
        device: Its device; the session's CPU by default.
    """

    def __init__(self, device: Any = "cpu") -> None:
        session = current_session()
        super().__init__(session.record("torch.Generator", (), {"device": str(device)}))
        self._device = device

    @property
    def device(self) -> device:
        """The device it is on."""
        return device(self._device)

    def manual_seed(self, seed: int) -> "Generator":
        """Seeds it; returns itself."""
        self._record("manual_seed", seed)
        return self

    def seed(self) -> int:
        """Seeds it with a random number and returns that."""
        return int(self._fetch("seed"))

    def initial_seed(self) -> int:
        """Returns what it was seeded with."""
        return int(self._fetch("initial_seed"))

    def get_state(self) -> Tensor:
        """Returns its state, a tensor of bytes."""
        state: Tensor = wrap(self._slot.session.record("torch.Generator.get_state", (self,), {}))
        return state

    def set_state(self, new_state: Tensor) -> None:
        """Takes back a state that `get_state` returned."""
        self._record("set_state", new_state)

    def _record(self, method: str, *args: Any) -> None:
        self._slot.session.record(f"torch.Generator.{method}", (self, *args), {}, wanted=False)

    def _fetch(self, method: str) -> Any:
        return self._slot.session.fetch(f"torch.Generator.{method}", (self,), {})

    def __repr__(self) -> str:
        return f"<torch._C.Generator object at {id(self):#x}>"


class DefaultGenerator:
    """The random numbers of the current session; as an argument it means no generator."""

    device = device("cpu")

    def manual_seed(self, seed: int) -> "DefaultGenerator":
        """Seeds the session's random numbers."""
        return manual_seed(seed)

    def seed(self) -> int:
        """Seeds the session's random numbers with a random number and returns that."""
        return seed()

    def initial_seed(self) -> int:
        """Returns what they were seeded with."""
        return initial_seed()

    def get_state(self) -> Tensor:
        """Returns their state."""
        return get_rng_state()

    def set_state(self, new_state: Tensor) -> None:
        """Takes back a state that `get_state` returned."""
        set_rng_state(new_state)

    def __gradwire_value__(self) -> None:
        """What to send in its place: None, which torch takes for its default generator."""


default_generator = DefaultGenerator()


def manual_seed(seed: int) -> DefaultGenerator:
    """Seeds the random numbers of the current session, as torch.manual_seed does for a process."""
    current_session().record("torch.manual_seed", (int(seed),), {}, wanted=False)
    return default_generator


def seed() -> int:
    """Seeds the session's random numbers with a random number and returns that."""
    return int(current_session().fetch("torch.seed", (), {}))


def initial_seed() -> int:
    """Returns what the session's random numbers were seeded with."""
    return int(current_session().fetch("torch.initial_seed", (), {}))


def get_rng_state() -> Tensor:
    """Returns the state of the session's random numbers, a tensor of bytes."""
    state: Tensor = wrap(current_session().record("torch.get_rng_state", (), {}))
    return state


def set_rng_state(new_state: Tensor) -> None:
    """Takes back a state that `get_rng_state` returned."""
    current_session().record("torch.set_rng_state", (new_state,), {}, wanted=False)


@contextmanager
def fork_rng(_: Any = None, enabled: bool = True, **__: Any) -> Iterator[None]:
    """Puts the session's random numbers back as they were, at the end of the block."""
    session = current_session()
    state = RemoteObject(session.record("gradwire.random_state", (), {})) if enabled else None
    try:
        yield
    finally:
        if state is not None:
            session.record("gradwire.set_random_state", (state,), {}, wanted=False)
