from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gradwire_server.access.identity import Caller, Role
from gradwire_server.access.tokens import (
    TokenEntry,
    Tokens,
    TokensFileError,
    append_token,
    new_token,
    parse_expiry,
    read_tokens_file,
)
from gradwire_server.errors import GradwireError, Reason

HASH = "ab" * 32
LINE = f"tenant=acme role=user expires=never sha256={HASH}"


def add_token(
    path: Path, tenant: str, role: Role = Role.USER, expires: datetime | None = None
) -> str:
    token = new_token()
    append_token(path, TokenEntry.of(token, tenant, role, expires))
    return token


def reason(tokens: Tokens, authorization: str | bytes) -> Reason:
    with pytest.raises(GradwireError) as caught:
        tokens.identify(authorization)
    return caught.value.reason


def test_a_token_stands_for_a_tenant_and_a_role(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    user, admin = add_token(path, "acme"), add_token(path, "ops", Role.ADMIN)
    tokens = Tokens(path)
    found = tokens.identify(f"Bearer {user}")
    assert (found.tenant, found.role) == ("acme", Role.USER)
    assert tokens.identify(f"bearer {admin}".encode()).role is Role.ADMIN


def test_the_file_holds_no_token_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = add_token(path, "acme")
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer ", "Basic x", "Bearer x", b"Bearer \xff"])
def test_anything_else_stands_for_nobody(tmp_path: Path, shown: str | bytes) -> None:
    path = tmp_path / "tokens"
    add_token(path, "acme")
    assert reason(Tokens(path), shown) is Reason.UNAUTHENTICATED


def test_a_hash_is_no_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "acme")
    (entry,) = read_tokens_file(path)
    assert reason(Tokens(path), f"Bearer {entry.digest.hex()}") is Reason.UNAUTHENTICATED


def test_an_expired_token_stands_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = add_token(path, "acme", expires=datetime.now(UTC) - timedelta(seconds=1))
    assert reason(Tokens(path), f"Bearer {token}") is Reason.UNAUTHENTICATED


def test_the_single_token_is_one_more_entry(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = add_token(path, "acme")
    single = TokenEntry.of("open sesame", "default", Role.ADMIN, None)
    tokens = Tokens(path, single)
    assert tokens.identify("Bearer open sesame").tenant == "default"
    assert tokens.identify(f"Bearer {token}").tenant == "acme"
    assert Tokens(None, single).identify("Bearer open sesame").role is Role.ADMIN


def test_who_was_known_is_not_any_more_when_the_token_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    kept, lost = add_token(path, "acme"), add_token(path, "other")
    tokens = Tokens(path, check_seconds=0)
    one, two = (tokens.identify(f"Bearer {token}") for token in (kept, lost))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    tokens.check(one)
    with pytest.raises(GradwireError, match="taken back"):
        tokens.check(two)
    path.write_text("a mistake")
    tokens.check(one)


def test_a_line_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"\n# ours\n  {LINE}  # laptop\n")
    (entry,) = read_tokens_file(path)
    assert entry.line() == LINE
    assert entry.caller == Caller(tenant="acme", role=Role.USER, token_id=HASH[:8])


def test_a_line_is_appended_to_a_file_without_a_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(LINE)
    add_token(path, "other")
    assert [entry.caller.tenant for entry in read_tokens_file(path)] == ["acme", "other"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE.replace("user", "boss"), 'role: "boss" is no role; expected one of admin, user'),
        (LINE.replace("acme", "Acme Inc"), "a word without = is no field"),
        (LINE.replace("acme", "Acme"), 'tenant: "Acme" is no name'),
        (LINE.replace("never", "tomorrow"), 'expires: "tomorrow" is no time'),
        (LINE.replace("never", "90d"), 'expires: "90d" is a period'),
        (LINE.replace("ab", "xy"), "sha256: is no SHA-256"),
        (LINE.replace(" role=user", ""), "role: is missing"),
        (LINE + " role=user", "role: is there twice"),
        (LINE + " colour=red", '"colour" is no field'),
        (f"{LINE}\n{LINE}", "line 4: sha256: an earlier line has the same token"),
    ],
)
def test_a_malformed_line_is_told_with_its_number_and_field(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n\n{line}\n")
    with pytest.raises(TokensFileError, match=f"tokens file {path}, line ") as caught:
        Tokens(path)
    assert message in str(caught.value)


def test_a_token_put_into_the_file_by_mistake_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = new_token()
    for text in (token, f"tenant=acme role=user expires=never sha256={token}"):
        path.write_text(text)
        with pytest.raises(TokensFileError) as caught:
            Tokens(path)
        assert token not in str(caught.value)


def test_a_file_without_a_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("# nobody\n")
    with pytest.raises(TokensFileError, match="gradwire tokens new"):
        Tokens(path)


@pytest.mark.parametrize(
    ("text", "delta"),
    [("12h", timedelta(hours=12)), ("90d", timedelta(days=90)), ("2w", timedelta(weeks=2))],
)
def test_a_period_is_counted_from_now(text: str, delta: timedelta) -> None:
    before = datetime.now(UTC)
    found = parse_expiry(text)
    assert found is not None
    assert before + delta <= found <= datetime.now(UTC) + delta


def test_a_time_without_a_zone_is_utc() -> None:
    assert parse_expiry("2030-01-02") == datetime(2030, 1, 2, tzinfo=UTC)
    assert parse_expiry("2030-01-02T03:00:00+02:00") == datetime(2030, 1, 2, 1, tzinfo=UTC)
    assert parse_expiry("never") is None
