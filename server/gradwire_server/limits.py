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
        max_total_dataset_bytes: Most bytes of all datasets together; 0 is no limit.
        max_total_checkpoint_bytes: Most bytes of all checkpoints together; here and below, 0 is no
            limit.
        max_bytes: Most bytes of tensors in all sessions.
        max_session_shared_bytes: Most bytes of memory that a session shares with its client.
        max_shared_bytes: Most bytes of memory that all sessions share with their clients.
        max_tenant_shared_bytes: Most bytes of memory that sessions of one tenant share.
        max_runs: Most runs in progress.
        max_requests_per_second: Most requests and messages of streams a second.
        max_tenant_sessions: Most sessions of one tenant at once.
        max_tenant_bytes: Most bytes of tensors in the sessions of one tenant.
        max_tenant_runs: Most runs of one tenant in progress.
        max_tenant_requests_per_second: Most requests of one tenant a second.
        max_tenant_message_bytes: Largest request message of one tenant.
        max_tenant_total_dataset_bytes: Most bytes of the datasets of one tenant.
        max_tenant_total_checkpoint_bytes: Most bytes of the checkpoints of one tenant.
        max_command_seconds: How long one command, or one step of a run, may take; 0 for ever.
        session_idle_timeout_seconds: After how long without a command a session is parked.
        parked_session_ttl_seconds: How long a parked session is kept; if 0, sessions are not
            parked but end.
        checkpoint_ttl_seconds: After how long a checkpoint of a session is deleted that has no
            time of its own; 0 for never.
    """

    max_message_bytes: int = 256 * MEBIBYTE
    max_sessions: int = 256
    max_session_bytes: int = 8192 * MEBIBYTE
    max_program_operations: int = 100_000
    max_queued_messages: int = 1024
    max_dataset_bytes: int = 64 * 1024 * MEBIBYTE
    max_dataset_columns: int = 1024
    max_total_dataset_bytes: int = 256 * 1024 * MEBIBYTE
    max_total_checkpoint_bytes: int = 0
    max_bytes: int = 0
    max_session_shared_bytes: int = 64 * MEBIBYTE
    max_shared_bytes: int = 2048 * MEBIBYTE
    max_tenant_shared_bytes: int = 0
    max_runs: int = 0
    max_requests_per_second: float = 0.0
    max_tenant_sessions: int = 0
    max_tenant_bytes: int = 0
    max_tenant_runs: int = 0
    max_tenant_requests_per_second: float = 0.0
    max_tenant_message_bytes: int = 0
    max_tenant_total_dataset_bytes: int = 0
    max_tenant_total_checkpoint_bytes: int = 0
    max_command_seconds: float = 600.0
    session_idle_timeout_seconds: float = 3600.0
    parked_session_ttl_seconds: float = 7 * 86400.0
    checkpoint_ttl_seconds: float = 0.0
