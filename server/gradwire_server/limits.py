"""The limits that are enforced on sessions, all of them configuration."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits in force. Going over one fails with RESOURCE_EXHAUSTED, which names it.

    Attributes:
        max_message_bytes: Largest request message.
        max_sessions: Most sessions at once.
        max_session_bytes: Most bytes of tensors held in a session.
        max_program_operations: Most operations in a program.
        max_queued_messages: Most messages of one session that wait at the server.
        max_dataset_bytes: Most bytes of one dataset.
        max_dataset_columns: Most columns of a dataset.
        max_total_dataset_bytes: Most bytes of all datasets together.
        session_idle_timeout_seconds: After how long without a command a session ends.
    """

    max_message_bytes: int = 256 * MEBIBYTE
    max_sessions: int = 256
    max_session_bytes: int = 8192 * MEBIBYTE
    max_program_operations: int = 100_000
    max_queued_messages: int = 1024
    max_dataset_bytes: int = 64 * 1024 * MEBIBYTE
    max_dataset_columns: int = 1024
    max_total_dataset_bytes: int = 256 * 1024 * MEBIBYTE
    session_idle_timeout_seconds: float = 3600.0
