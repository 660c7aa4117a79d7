"""The settings of a server: their types, defaults, descriptions, and what they may be."""

import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from gradwire_server.access.quotas import Quota
from gradwire_server.access.tokens import parse_tenant
from gradwire_server.limits import Limits
from gradwire_server.log import LogFormat, LogLevels
from gradwire_server.storage import StorageConfig
from gradwire_server.transport.addresses import Address
from gradwire_server.transport.tls import TlsFiles
from gradwire_server.workers.devices import parse_devices

ENV_PREFIX = "GRADWIRE_"

_DEFAULTS = Limits()
_URL = re.compile(r"[a-z][a-z0-9+.-]*://.+|/.*|\./.*|~/.*", re.DOTALL)


def default_storage() -> str:
    """Returns the folder for durable data of this user."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return f"file://{Path(home) / 'gradwire'}"


class Settings(BaseSettings):
    """All settings of a server."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", validate_default=True
    )

    address: str = Field("127.0.0.1:50051", description="HOST:PORT or unix:PATH; port 0: any.")
    health_address: str | None = Field(
        None, description="HOST:PORT for health checks alone, without TLS; off by default."
    )
    page_address: str | None = Field(
        None, description="HOST:PORT of the web page, such as 127.0.0.1:8080; off by default."
    )
    device: str = Field("auto", description="auto, or cpu, cuda, cuda:N, separated by commas.")
    workers: int = Field(1, ge=1, le=1024, description="Worker processes on each device.")
    threads: int = Field(0, ge=0, description="Threads of an operation; 0: share the cores.")
    storage: str = Field(
        default_factory=default_storage, description="URL of the folder for durable data."
    )
    storage_cache_bytes: int = Field(
        64 * 1024**3, ge=0, description="Most bytes of copies of remote data on the local disk."
    )
    resume_runs: bool = Field(
        True, description="Go on with runs that a server on the same storage has left."
    )
    replay_steps: bool = Field(
        True, description="Replay training steps that come often, without autograd; exact."
    )
    compile_steps: bool = Field(
        True, description="Compile training steps that need not be exact and come often."
    )
    log_format: LogFormat = Field("text", description="How to log: json or text.")
    log_level: str = Field(
        "info", description="debug, info, warning or error; of modules: info,sessions=debug."
    )
    audit_log_file: Path | None = Field(
        None, description="File to append to who did what, a JSON object a line."
    )
    metrics_address: str | None = Field(
        None, description="HOST:PORT of the metrics for Prometheus; off by default."
    )
    otlp_endpoint: str | None = Field(
        None, description="http(s)://HOST:PORT of an OTLP receiver (gRPC) to send traces to."
    )
    channelz: bool = Field(
        False, description="Let admins look into gRPC's connections by the channelz service."
    )
    token: SecretStr | None = Field(None, description="What callers must show as Bearer token.")
    tokens_file: Path | None = Field(
        None, description="File of hashed tokens with tenant and role; see gradwire tokens new."
    )
    tls_certificate_file: Path | None = Field(
        None, description="PEM file with the server's certificate and what it is signed by."
    )
    tls_key_file: Path | None = Field(None, description="PEM file with the certificate's key.")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM file with the authorities of certificates that callers must show."
    )
    plaintext: bool = Field(
        False, description="Serve other hosts without TLS; a token is still asked for."
    )
    insecure: bool = Field(
        False, description="Serve other hosts without TLS and without asking for a token."
    )
    drain_timeout_seconds: float = Field(
        30.0, ge=0, description="How long calls in flight may take when the server stops."
    )
    max_message_bytes: Annotated[int, Field(ge=1024, le=2**30, description="Largest request.")] = (
        _DEFAULTS.max_message_bytes
    )
    max_sessions: int = Field(_DEFAULTS.max_sessions, ge=1, description="Most sessions at once.")
    max_session_bytes: int = Field(
        _DEFAULTS.max_session_bytes, ge=0, description="Most bytes of tensors in a session."
    )
    max_program_operations: int = Field(
        _DEFAULTS.max_program_operations, ge=1, description="Most operations in a program."
    )
    max_queued_messages: int = Field(
        _DEFAULTS.max_queued_messages, ge=1, description="Most messages of a session that wait."
    )
    max_dataset_bytes: int = Field(
        _DEFAULTS.max_dataset_bytes, ge=0, description="Most bytes of one dataset."
    )
    max_dataset_columns: int = Field(
        _DEFAULTS.max_dataset_columns, ge=1, description="Most columns of a dataset."
    )
    max_total_dataset_bytes: int = Field(
        _DEFAULTS.max_total_dataset_bytes,
        ge=0,
        description="Most bytes of all datasets together; 0: no limit.",
    )
    max_total_checkpoint_bytes: int = Field(
        _DEFAULTS.max_total_checkpoint_bytes,
        ge=0,
        description="Most bytes of all checkpoints together; 0: no limit.",
    )
    allowed_data_prefixes: str = Field(
        "",
        description="Where runs may read files: folders or URLs of folders, separated by commas.",
    )
    max_bytes: int = Field(
        _DEFAULTS.max_bytes, ge=0, description="Most bytes of tensors in all sessions; 0: no limit."
    )
    shared_memory: bool = Field(
        True, description="Let clients on this host pass large tensors through shared memory."
    )
    max_session_shared_bytes: int = Field(
        _DEFAULTS.max_session_shared_bytes,
        ge=0,
        description="Most bytes of memory that a session shares with its client.",
    )
    max_shared_bytes: int = Field(
        _DEFAULTS.max_shared_bytes,
        ge=0,
        description="Most bytes of memory shared with clients; 0: no limit.",
    )
    max_tenant_shared_bytes: int = Field(
        _DEFAULTS.max_tenant_shared_bytes,
        ge=0,
        description="Most bytes of memory shared with clients of a tenant; 0: no limit.",
    )
    max_runs: int = Field(
        _DEFAULTS.max_runs, ge=0, description="Most runs in progress; 0: no limit."
    )
    max_requests_per_second: float = Field(
        _DEFAULTS.max_requests_per_second,
        ge=0,
        description="Most requests and messages of streams a second; 0: no limit.",
    )
    max_tenant_sessions: int = Field(
        _DEFAULTS.max_tenant_sessions, ge=0, description="Most sessions of a tenant; 0: no limit."
    )
    max_tenant_bytes: int = Field(
        _DEFAULTS.max_tenant_bytes,
        ge=0,
        description="Most bytes of tensors in a tenant's sessions; 0: no limit.",
    )
    max_tenant_runs: int = Field(
        _DEFAULTS.max_tenant_runs, ge=0, description="Most runs of a tenant; 0: no limit."
    )
    max_tenant_requests_per_second: float = Field(
        _DEFAULTS.max_tenant_requests_per_second,
        ge=0,
        description="Most requests and messages of streams of a tenant a second; 0: no limit.",
    )
    max_tenant_message_bytes: int = Field(
        _DEFAULTS.max_tenant_message_bytes,
        ge=0,
        description="Largest request of a tenant; 0: no limit of its own.",
    )
    max_tenant_total_dataset_bytes: int = Field(
        _DEFAULTS.max_tenant_total_dataset_bytes,
        ge=0,
        description="Most bytes of a tenant's datasets; 0: no limit.",
    )
    max_tenant_total_checkpoint_bytes: int = Field(
        _DEFAULTS.max_tenant_total_checkpoint_bytes,
        ge=0,
        description="Most bytes of a tenant's checkpoints; 0: no limit.",
    )
    tenants: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="Tenants with limits of their own, as JSON: "
        '{"acme": {"max_sessions": 8, "max_bytes": 1000000000}}.',
    )
    max_command_seconds: float = Field(
        _DEFAULTS.max_command_seconds,
        ge=0,
        description="How long a command, or a step of a run, may take; 0: as long as it likes.",
    )
    session_idle_timeout_seconds: float = Field(
        _DEFAULTS.session_idle_timeout_seconds,
        ge=0,
        description="After how long without a command a session is parked; 0: never.",
    )
    parked_session_ttl_seconds: float = Field(
        _DEFAULTS.parked_session_ttl_seconds,
        ge=0,
        description="How long parked sessions are kept; 0: sessions end instead of being parked.",
    )
    checkpoint_ttl_seconds: float = Field(
        _DEFAULTS.checkpoint_ttl_seconds,
        ge=0,
        description="How long checkpoints of sessions are kept that say nothing else; 0: for ever.",
    )
    checkpoint_sweep_seconds: float = Field(
        600.0, gt=0, description="How often checkpoints whose time is over are deleted."
    )

    @property
    def storage_config(self) -> StorageConfig:
        """Where durable data is, and how much of it may be copied here."""
        return StorageConfig(
            url=self.storage,
            max_cache_bytes=self.storage_cache_bytes,
            allowed_data_prefixes=tuple(filter(None, self.allowed_data_prefixes.split(","))),
        )

    @property
    def limits(self) -> Limits:
        """The limits among the settings."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS; none if it is not used."""
        if self.tls_certificate_file is None or self.tls_key_file is None:
            return None
        return TlsFiles(
            certificate=self.tls_certificate_file,
            key=self.tls_key_file,
            client_ca=self.tls_client_ca_file,
        )

    @property
    def wants_token(self) -> bool:
        """Whether callers must show a token."""
        return self.token is not None or self.tokens_file is not None

    @field_validator("address", "health_address", "page_address", "metrics_address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None:
            Address.parse(value)
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_otlp_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            found = urlsplit(value)
            if found.scheme not in {"http", "https"} or not found.hostname:
                raise ValueError(f'"{value}" is no http://HOST:PORT or https://HOST:PORT')
        return value

    @field_validator("log_level")
    @classmethod
    def _check_log_level(cls, value: str) -> str:
        LogLevels.parse(value)
        return value

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        parse_devices(value)
        return value

    @field_validator("allowed_data_prefixes")
    @classmethod
    def _check_prefixes(cls, value: str) -> str:
        for prefix in filter(None, value.split(",")):
            if not _URL.fullmatch(prefix):
                raise ValueError(f'"{prefix}" is neither a folder nor a URL of one')
        return value

    @field_validator("storage")
    @classmethod
    def _check_storage(cls, value: str) -> str:
        if not _URL.fullmatch(value):
            raise ValueError(f'"{value}" is neither a URL such as s3://bucket/folder nor a folder')
        return value

    @field_validator("tenants", mode="before")
    @classmethod
    def _parse_tenants(cls, value: Any) -> Any:
        # The command line has it as text; the environment and the file come parsed.
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"is no JSON: {error}") from None

    @field_validator("tenants")
    @classmethod
    def _check_tenants(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        known = [quota.in_all for quota in Quota]
        for tenant, limits in value.items():
            parse_tenant(tenant)
            for name, limit in limits.items():
                if name not in known:
                    raise ValueError(f"{tenant}.{name}: is none of {', '.join(known)}")
                if limit < 0:
                    raise ValueError(f"{tenant}.{name}: is {limit}; must not be negative")
        return value

    @model_validator(mode="after")
    def _check_exposure(self) -> "Settings":
        if self.token is not None and not self.token.get_secret_value():
            raise ValueError("token is empty; leave it out or give one")
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together; give both")
        if self.tls_client_ca_file is not None and self.tls is None:
            raise ValueError("tls_client_ca_file needs tls_certificate_file and tls_key_file")
        if not self.insecure:
            for name in ("address", "page_address", "metrics_address"):
                self._check_protected(name)
        return self

    def _check_protected(self, name: str) -> None:
        """Raises ValueError if an address can be reached from other hosts without protection."""
        address = getattr(self, name)
        if address is None or Address.parse(address).is_local:
            return
        if self.tls is None and not self.plaintext:
            raise ValueError(
                f"{name} {address} can be reached from other hosts, and there is no TLS; "
                "give --tls-certificate-file and --tls-key-file, or say --plaintext if the "
                "connection is protected otherwise, or --insecure if everybody who can reach the "
                "address may read along and do everything"
            )
        if not self.wants_token and self.tls_client_ca_file is None:
            raise ValueError(
                f"{name} {address} can be reached from other hosts, and there is no token; "
                f"set {ENV_PREFIX}TOKEN or give --tokens-file, or say --insecure if everybody who "
                "can reach the address may do everything"
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns where settings come from, the strongest first."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)
