"""``torch.cpu``: the CPU is always there."""


def is_available() -> bool:
    """Returns True."""
    return True


def device_count() -> int:
    """Returns 1."""
    return 1


def synchronize(device: object = None) -> None:
    """Does nothing: operations on a CPU are done when they return."""
