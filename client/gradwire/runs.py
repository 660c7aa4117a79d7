"""Training runs: they live on the server, and any program may look at them and follow them."""

from collections.abc import Sequence

from gradwire.connection import find_server
from gradwire.history import History
from gradwire.loggers import Logger
from gradwire.run import Run
from gradwire.v1 import runs_pb2, runs_pb2_grpc

__all__ = ["Run", "attach", "list"]


def attach(
    name: str,
    *,
    address: str | None = None,
    token: str | None = None,
    loggers: Sequence[Logger] = (),
) -> Run:
    """Returns a run that any program began, with all that it told so far.

    Args:
        name: ``runs/{run}``, or its last part.
        address: The server; None means that of the session in use, else as for
            :func:`gradwire.connect`.
        token: What authenticates the caller; None means the environment's GRADWIRE_TOKEN.
        loggers: Where else its numbers go, from the first on; see `gradwire.loggers`.

    Raises:
        NotFoundError: There is no such run.
    """
    history = History()
    history.name = name if name.startswith("runs/") else f"runs/{name}"
    return Run(find_server(address, token), history, loggers=loggers).refresh()


def list(*, address: str | None = None, token: str | None = None) -> "Sequence[Run]":
    """Returns the runs of a server, newest first, with all that they told so far.

    Args:
        address: As for :func:`attach`.
        token: As for :func:`attach`.
    """
    server = find_server(address, token)
    stub = runs_pb2_grpc.RunServiceStub(server.channel)
    request = runs_pb2.ListRunsRequest()
    found = []
    while True:
        response = server.call(stub.ListRuns, request)
        for summary in response.runs:
            history = History()
            history.name = summary.name
            found.append(Run(server, history).refresh())
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token
