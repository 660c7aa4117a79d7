"""The command ``gradwire``."""

import os
import sys

MISSING_MESSAGE = (
    "gradwire: the parts of a server are not installed ({module} is missing); "
    "install them with: pip install 'gradwire[server]'"
)


def main() -> int:
    """Runs the command; returns its exit status."""
    # Workers are forked and replaced at once by programs of their own: gRPC need not prepare for
    # that, and would complain in the log that it can't. It reads this when it is imported.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        from gradwire_server.commands import run  # noqa: PLC0415 - so that its absence can be told
    except ModuleNotFoundError as error:
        sys.stderr.write(MISSING_MESSAGE.format(module=error.name) + "\n")
        return 2
    return run()
