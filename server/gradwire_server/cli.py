"""The command ``gradwire``."""

import sys

MISSING_MESSAGE = (
    "gradwire: the parts of a server are not installed ({module} is missing); "
    "install them with: pip install 'gradwire[server]'"
)


def main() -> int:
    """Runs the command; returns its exit status."""
    try:
        from gradwire_server.commands import run  # noqa: PLC0415 - so that its absence can be told
    except ModuleNotFoundError as error:
        sys.stderr.write(MISSING_MESSAGE.format(module=error.name) + "\n")
        return 2
    return run()
