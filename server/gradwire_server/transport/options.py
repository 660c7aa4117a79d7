"""The gRPC settings of the server, and those that a client must set to match.

A client that pings more often than the server allows is cut off (``too_many_pings``), and one that
keeps gRPC's default of 4 MiB a message cannot receive a larger tensor. A client is best made with
``CLIENT_OPTIONS``.
"""

from gradwire_server.limits import MEBIBYTE

_PING_SECONDS = 30
_PING_TIMEOUT_SECONDS = 20
_LEAST_PING_SECONDS = 10

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", _PING_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""Options of a channel to this server."""


def server_options(
    max_message_bytes: int, *, channelz: bool = False
) -> tuple[tuple[str, int], ...]:
    """Returns the options of the server.

    Args:
        max_message_bytes: The limit of gradwire. gRPC's own limit is set well above, so that a
            message over ours is answered by an error that names the limit.
        channelz: Whether gRPC keeps count for the channelz service.
    """
    return (
        ("grpc.max_receive_message_length", min(2 * max_message_bytes + MEBIBYTE, 2**31 - 1)),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_channelz", int(channelz)),
        # A second server on the same port must fail, not share the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", _PING_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_SECONDS * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_SECONDS * 1000),
    )
