"""``torch.cuda`` as far as programs ask it what there is."""

from gradwire.connection import current_session


def is_available() -> bool:
    """Returns whether the session runs on a CUDA device."""
    return current_session().device.startswith("cuda")


def device_count() -> int:
    """Returns the number of CUDA devices of the session: a session has one or none."""
    return int(is_available())


def current_device() -> int:
    """Returns the index of the session's CUDA device.

    Raises:
        RuntimeError: The session runs on a CPU.
    """
    kind, _, index = current_session().device.partition(":")
    if kind != "cuda":
        raise RuntimeError("the session runs on a CPU; no CUDA device is available")
    return int(index or 0)


def synchronize() -> None:
    """Waits until everything recorded was carried out."""
    current_session().flush()


def manual_seed(seed: int) -> None:
    """Seeds the session's random numbers."""
    current_session().record("torch.manual_seed", (seed,), {}, wanted=False)


manual_seed_all = manual_seed
