"""The RPCs that workers answer: one row each."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from google.protobuf.message import Message

from gradwire.v1 import server_pb2, sessions_pb2
from gradwire_server.engine.intrinsics import Intrinsics
from gradwire_server.engine.registry import KIND_OF_NAME, torch_object
from gradwire_server.engine.session import Session
from gradwire_server.engine.values import encode_value


class Unary(NamedTuple):
    """An RPC that is done in one turn."""

    request: type[Message]
    handler: Callable[[Session, Any], Message]


class Streaming(NamedTuple):
    """An RPC whose handler yields, once a step, the responses to send."""

    request: type[Message]
    handler: Callable[[Session, Any], Iterator[Sequence[Message]]]


def fetch_values(
    session: Session, request: sessions_pb2.FetchValuesRequest
) -> sessions_pb2.FetchValuesResponse:
    """Returns session values."""
    return sessions_pb2.FetchValuesResponse(
        values=[
            encode_value(session.value(handle, f"handles[{index}]"))
            for index, handle in enumerate(request.handles)
        ]
    )


def release_values(
    session: Session, request: sessions_pb2.ReleaseValuesRequest
) -> sessions_pb2.ReleaseValuesResponse:
    """Forgets session values."""
    session.release(request.handles)
    return sessions_pb2.ReleaseValuesResponse()


@cache
def catalog_response() -> server_pb2.GetCatalogResponse:
    """Returns all names with kind and signature."""
    entries = [
        server_pb2.CatalogEntry(name=name, kind=kind, signature=_signature(torch_object(name)))
        for name, kind in KIND_OF_NAME.items()
    ]
    entries += [
        server_pb2.CatalogEntry(
            name=name,
            kind=server_pb2.CATALOG_KIND_INTRINSIC,
            signature=_signature(function),
        )
        for name, function in Intrinsics(torch.device("cpu")).table().items()
    ]
    return server_pb2.GetCatalogResponse(entries=sorted(entries, key=lambda entry: entry.name))


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (ValueError, TypeError):
        # Built-in functions of torch carry no signature that Python can read.
        return ""


SESSION_VERBS: dict[str, Unary | Streaming] = {
    "FetchValues": Unary(sessions_pb2.FetchValuesRequest, fetch_values),
    "ReleaseValues": Unary(sessions_pb2.ReleaseValuesRequest, release_values),
}
"""The RPCs on a session, by method name; Execute is the one beside them."""
