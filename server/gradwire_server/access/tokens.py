"""Tokens: who they stand for, checked against a file of their hashes.

A tokens file has one token a line, as `gradwire tokens new` writes it; blank lines and what follows
a ``#`` are ignored::

    tenant=acme role=user expires=2027-01-01T00:00:00+00:00 sha256=9f86d08...  # CI of acme

The file has no token that anybody could show: a token is 256 random bits, so that its SHA-256 gives
nothing away and needs no salt.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from gradwire_server.access.identity import Caller, Role
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.reloading import CHECK_SECONDS, Reloaded

TOKEN_PREFIX = "gw_"  # noqa: S105  # how a token begins, so that scanners find lost ones
TOKEN_BYTES = 32
NEVER = "never"
ID_LENGTH = 8
"""How many digits of a token's hash name it in logs."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HASH = re.compile(r"[0-9a-f]{64}")
_PERIOD = re.compile(r"(\d{1,6})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
P = TypeVar("P")

_FIELDS = ("tenant", "role", "expires", "sha256")


class TokensFileError(ValueError):
    """A tokens file that cannot be used; the message names the line and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntry:
    """What is known of one token.

    Attributes:
        caller: Whom it stands for.
        expires: Until when; none if always.
        digest: The SHA-256 of the token.
    """

    caller: Caller
    expires: datetime | None
    digest: bytes

    @classmethod
    def of(cls, token: str, tenant: str, role: Role, expires: datetime | None) -> "TokenEntry":
        """Returns the entry of a token."""
        return cls.of_digest(_digest(token), tenant, role, expires)

    @classmethod
    def of_digest(
        cls, digest: bytes, tenant: str, role: Role, expires: datetime | None
    ) -> "TokenEntry":
        """Returns the entry of a token whose hash is known."""
        token_id = digest.hex()[:ID_LENGTH]
        caller = Caller(tenant=tenant, role=role, token_id=token_id)
        return cls(caller=caller, expires=expires, digest=digest)

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and datetime.now(UTC) >= self.expires

    def line(self) -> str:
        """Returns its line of a tokens file."""
        expires = NEVER if self.expires is None else self.expires.isoformat(timespec="seconds")
        values = (self.caller.tenant, self.caller.role, expires, self.digest.hex())
        return " ".join(f"{name}={value}" for name, value in zip(_FIELDS, values, strict=True))


class Tokens:
    """Tells who shows a token.

    Args:
        path: A tokens file, read again when it changes; none if there is none.
        single: One more entry, the server's single token.
        check_seconds: How long a change of the file may go unnoticed.

    Raises:
        TokensFileError: The file cannot be used.
    """

    def __init__(
        self,
        path: Path | None = None,
        single: TokenEntry | None = None,
        *,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._single = {} if single is None else {single.caller.token_id: single}
        self._file: Reloaded[Mapping[str, TokenEntry]] | None = None
        if path is not None:
            self._file = Reloaded(
                "tokens", (path,), lambda: self._read(path), check_seconds=check_seconds
            )

    def identify(self, authorization: str | bytes) -> Caller:
        """Returns who shows ``Bearer <token>``.

        The time that this takes tells nothing of how close a wrong token is: hashes are compared,
        all of them, each in constant time.

        Raises:
            GradwireError: UNAUTHENTICATED.
        """
        text = authorization if isinstance(authorization, str) else authorization.decode("latin-1")
        scheme, _, token = text.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthenticated("This server wants a token")
        shown = _digest(token.strip())
        found: TokenEntry | None = None
        for entry in self._entries().values():
            if hmac.compare_digest(entry.digest, shown):
                found = entry
        if found is None:
            raise _unauthenticated("This server does not know the token that was sent")
        return self._valid(found)

    def check(self, who: Caller) -> None:
        """Checks that a caller, known from before, has not lost the right to call.

        Raises:
            GradwireError: UNAUTHENTICATED.
        """
        entry = self._entries().get(who.token_id)
        if entry is None or entry.caller != who:
            raise _unauthenticated("The token was taken back")
        self._valid(entry)

    def _entries(self) -> Mapping[str, TokenEntry]:
        """Returns the entries by the ids of their tokens."""
        return self._single if self._file is None else self._file.value

    def _read(self, path: Path) -> Mapping[str, TokenEntry]:
        return {entry.caller.token_id: entry for entry in read_tokens_file(path)} | self._single

    @staticmethod
    def _valid(entry: TokenEntry) -> Caller:
        if entry.expired:
            assert entry.expires is not None
            raise _unauthenticated(f"The token expired at {entry.expires.isoformat()}")
        return entry.caller


def new_token() -> str:
    """Returns a token that nobody can guess."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def parse_tenant(text: str) -> str:
    """Returns a tenant's name.

    Raises:
        ValueError: It is none.
    """
    if _TENANT.fullmatch(text) is None:
        raise ValueError(
            f'"{text}" is no name of a tenant; expected 1 to 63 of a-z, 0-9, ".", "_" and "-", '
            "a letter or digit first"
        )
    return text


def parse_role(text: str) -> Role:
    """Returns a role.

    Raises:
        ValueError: It is none.
    """
    try:
        return Role(text)
    except ValueError:
        raise ValueError(f'"{text}" is no role; expected one of {", ".join(Role)}') from None


def parse_expiry(text: str) -> datetime | None:
    """Returns when a token expires.

    Args:
        text: ``never``; a period from now such as ``90d``, ``12h`` or ``2w``; or a date with or
            without a time in ISO 8601, in UTC if no zone is given.

    Raises:
        ValueError: It is none of these.
    """
    if text == NEVER:
        return None
    period = _PERIOD.fullmatch(text)
    try:
        if period is not None:
            return datetime.now(UTC) + timedelta(hours=int(period[1]) * _HOURS[period[2]])
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f'"{text}" is no time; expected {NEVER}, a period such as 90d or 12h, or a time such '
            "as 2030-12-31T12:00:00Z"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def read_tokens_file(path: Path) -> tuple[TokenEntry, ...]:
    """Returns the entries of a tokens file.

    Raises:
        TokensFileError: It cannot be read, or a line is malformed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TokensFileError(f"tokens file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TokensFileError(f"tokens file {path}: is no text in UTF-8") from None
    entries: dict[bytes, TokenEntry] = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            entry = _parse_line(words)
            if entry.digest in entries:
                raise ValueError("sha256: an earlier line has the same token")
        except ValueError as error:
            raise TokensFileError(f"tokens file {path}, line {number}: {error}") from None
        entries[entry.digest] = entry
    if not entries:
        raise TokensFileError(
            f"tokens file {path}: has no token, so nobody could call; "
            f"make one: gradwire tokens new --tenant NAME --file {path}"
        )
    return tuple(entries.values())


def append_token(path: Path, entry: TokenEntry) -> None:
    """Appends an entry to a tokens file; makes the file, for its owner only, if there is none.

    Raises:
        TokensFileError: The file is there and cannot be used.
        OSError: It cannot be written.
    """
    text = entry.line() + "\n"
    if path.exists() and path.stat().st_size:
        read_tokens_file(path)
        if not path.read_bytes().endswith(b"\n"):
            text = "\n" + text
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # of a descriptor
        file.write(text)


def _parse_line(words: Sequence[str]) -> TokenEntry:
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _FIELDS:
            # A word without "=" may be a token that somebody put there, so it is not shown.
            shown = f'"{name[:40]}"' if equals else "a word without ="
            raise ValueError(f"{shown} is no field; expected {_fields_in_words()}")
        if name in values:
            raise ValueError(f"{name}: is there twice")
        values[name] = value
    for name in _FIELDS:
        if name not in values:
            raise ValueError(f"{name}: is missing; expected {_fields_in_words()}")
    return TokenEntry.of_digest(
        _in_field("sha256", _parse_hash, values),
        _in_field("tenant", parse_tenant, values),
        _in_field("role", parse_role, values),
        _in_field("expires", _parse_moment, values),
    )


def _in_field(name: str, parse: Callable[[str], P], values: Mapping[str, str]) -> P:
    try:
        return parse(values[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _parse_hash(text: str) -> bytes:
    if _HASH.fullmatch(text) is None:
        # Somebody may have put the token itself there, so it is not shown.
        raise ValueError("is no SHA-256 in 64 hexadecimal digits, as gradwire tokens new writes it")
    return bytes.fromhex(text)


def _parse_moment(text: str) -> datetime | None:
    if _PERIOD.fullmatch(text):
        raise ValueError(f'"{text}" is a period; a tokens file needs a time')
    return parse_expiry(text)


def _fields_in_words() -> str:
    return " ".join(f"{name}=..." for name in _FIELDS)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).digest()


def _unauthenticated(what: str) -> GradwireError:
    return GradwireError(
        Reason.UNAUTHENTICATED,
        f"{what}: send the metadata entry `authorization: Bearer <token>` with a valid one.",
    )
