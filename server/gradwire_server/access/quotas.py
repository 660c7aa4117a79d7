"""Quotas: how much tenants may use, each of them and all together.

There is one mechanism for all of them. Whoever gives something out takes it from a quota first and
gives it back at the end; what would be too much is refused with LIMIT_EXCEEDED, which names the
setting that says so and when to try again. A quota of 0 is none.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits

RETRY_AFTER_SECONDS = 10.0
"""When to try again what is given back some time, such as sessions."""

STORAGE_RETRY_SECONDS = 60.0
"""When to try again what somebody has to delete something for."""

MESSAGE_RETRY_SECONDS = 3600.0
"""When to try again what somebody has to raise a limit for."""


class Quota(StrEnum):
    """What is counted. Its limits are the settings ``max_{name}`` and ``max_tenant_{name}``."""

    SESSIONS = "sessions"
    BYTES = "bytes"
    RUNS = "runs"
    REQUESTS_PER_SECOND = "requests_per_second"
    MESSAGE_BYTES = "message_bytes"
    TOTAL_DATASET_BYTES = "total_dataset_bytes"
    TOTAL_CHECKPOINT_BYTES = "total_checkpoint_bytes"
    SHARED_BYTES = "shared_bytes"

    @property
    def in_all(self) -> str:
        """The setting for all tenants together."""
        return f"max_{self}"

    @property
    def of_tenant(self) -> str:
        """The setting for each tenant."""
        return f"max_tenant_{self}"


_LASTING: Mapping[Quota, float] = {
    Quota.MESSAGE_BYTES: MESSAGE_RETRY_SECONDS,
    Quota.TOTAL_DATASET_BYTES: STORAGE_RETRY_SECONDS,
    Quota.TOTAL_CHECKPOINT_BYTES: STORAGE_RETRY_SECONDS,
}
"""Quotas that nothing is given back to by itself, and when to try again."""

_ADVICE: Mapping[Quota, str] = {
    Quota.SESSIONS: "Delete one that is not needed any more, or wait until one expires.",
    Quota.BYTES: "Release what is no longer used, or delete a session.",
    Quota.RUNS: "Wait until one has ended, or cancel one.",
    Quota.REQUESTS_PER_SECOND: "Send requests more slowly, or more in one.",
    Quota.TOTAL_DATASET_BYTES: "Delete a dataset that is not needed any more.",
    Quota.TOTAL_CHECKPOINT_BYTES: "Delete a checkpoint or a run that is not needed any more.",
    Quota.SHARED_BYTES: "Send tensors in messages, or end a session that shares memory.",
    Quota.MESSAGE_BYTES: "Send less at once, or have the server's limit raised.",
}


class Quotas:
    """Counts what tenants use, and refuses what is too much. Belongs to one thread.

    Args:
        limits: The quotas of all tenants together, and of each.
        tenants: The quotas of tenants that have their own, by tenant and ``max_{name}``.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        limits: Limits,
        tenants: Mapping[str, Mapping[str, float]] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._tenants = tenants or {}
        self._clock = clock
        self._used: Counter[tuple[Quota, str]] = Counter()
        self._in_all: Counter[Quota] = Counter()
        self._found: dict[tuple[Quota, str | None], float] = {}
        self._bucket_in_all = self._new_bucket(None)
        self._buckets: dict[str, tuple[_Bucket | None, _Bucket | None]] = {}

    def limit(self, quota: Quota, tenant: str | None = None) -> float:
        """Returns a tenant's limit, or if none is given that of all together; 0 for none."""
        key = (quota, tenant)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._find(quota, tenant)
        return found

    def has_limits(self, quota: Quota) -> bool:
        """Whether anybody's use of something is limited."""
        tenants = (None, "", *self._tenants)
        return any(self.limit(quota, tenant) for tenant in tenants)

    def used(self, quota: Quota, tenant: str | None = None) -> float:
        """Returns what a tenant uses, or all together."""
        return self._in_all[quota] if tenant is None else self._used[quota, tenant]

    def users(self, quota: Quota) -> dict[str, float]:
        """Returns what each tenant uses that uses any."""
        return {tenant: amount for (what, tenant), amount in self._used.items() if what is quota}

    def take(self, quota: Quota, tenant: str, amount: float = 1) -> None:
        """Counts something as used.

        Raises:
            GradwireError: LIMIT_EXCEEDED; then nothing is counted.
        """
        for whose in (None, tenant):
            self._require(quota, whose, self.used(quota, whose) + amount)
        self._used[quota, tenant] += amount  # type: ignore[assignment]
        self._in_all[quota] += amount  # type: ignore[assignment]

    def give_back(self, quota: Quota, tenant: str, amount: float = 1) -> None:
        """Counts something as used no more."""
        self._used[quota, tenant] -= amount  # type: ignore[assignment]
        self._in_all[quota] -= amount  # type: ignore[assignment]
        if not self._used[quota, tenant]:
            del self._used[quota, tenant]

    @contextmanager
    def holding(self, quota: Quota, tenant: str, amount: float = 1) -> Iterator[None]:
        """Counts something as used until the end of the block.

        Raises:
            GradwireError: LIMIT_EXCEEDED.
        """
        self.take(quota, tenant, amount)
        try:
            yield
        finally:
            self.give_back(quota, tenant, amount)

    def check(self, quota: Quota, tenant: str, *, in_all: float, of_tenant: float) -> None:
        """Checks an amount that is counted elsewhere.

        Args:
            quota: What is counted.
            tenant: Whose it is.
            in_all: What all tenants together would use.
            of_tenant: What this one would.

        Raises:
            GradwireError: LIMIT_EXCEEDED if one of them is too much.
        """
        self._require(quota, None, in_all)
        self._require(quota, tenant, of_tenant)

    def check_message(self, num_bytes: int, tenant: str) -> None:
        """Checks the size of a message.

        Raises:
            GradwireError: LIMIT_EXCEEDED if it is too large.
        """
        for whose in (None, tenant):
            self._require(Quota.MESSAGE_BYTES, whose, num_bytes)

    def take_request(self, tenant: str) -> None:
        """Counts a request that may be refused.

        Raises:
            GradwireError: LIMIT_EXCEEDED if there were too many in the last second.
        """
        wait, whose = self._wait(tenant)
        if wait > 0:
            raise self._refusal(Quota.REQUESTS_PER_SECOND, whose, wait)
        self._take_of_buckets(tenant)

    def delay_of_request(self, tenant: str) -> float:
        """Counts a request that is to wait rather than be refused; returns how many seconds."""
        wait, _ = self._wait(tenant)
        self._take_of_buckets(tenant)
        return wait

    def _require(self, quota: Quota, tenant: str | None, amount: float) -> None:
        limit = self.limit(quota, tenant)
        if limit and amount > limit:
            raise self._refusal(quota, tenant, RETRY_AFTER_SECONDS, amount)

    def _refusal(
        self, quota: Quota, tenant: str | None, retry_after_seconds: float, amount: float = 0
    ) -> GradwireError:
        setting = quota.in_all if tenant is None else quota.of_tenant
        limit = self.limit(quota, tenant)
        whose = "all tenants together" if tenant is None else f"the tenant {tenant}"
        return quota_exceeded(
            quota, whose, setting, limit, amount, retry_after_seconds=retry_after_seconds
        )

    def _find(self, quota: Quota, tenant: str | None) -> float:
        if tenant is None:
            return float(getattr(self._limits, quota.in_all))
        own = self._tenants.get(tenant, {}).get(quota.in_all)
        return float(getattr(self._limits, quota.of_tenant) if own is None else own)

    def _wait(self, tenant: str) -> tuple[float, str | None]:
        """Returns how long a request would have to wait, and for whose quota."""
        in_all, own = self._buckets_of(tenant)
        wait_in_all = 0.0 if in_all is None else in_all.wait()
        wait_of_own = 0.0 if own is None else own.wait()
        return (wait_of_own, tenant) if wait_of_own > wait_in_all else (wait_in_all, None)

    def _take_of_buckets(self, tenant: str) -> None:
        for bucket in self._buckets_of(tenant):
            if bucket is not None:
                bucket.take()

    def _buckets_of(self, tenant: str) -> "tuple[_Bucket | None, _Bucket | None]":
        """Returns the bucket of all together and that of a tenant."""
        found = self._buckets.get(tenant)
        if found is None:
            found = self._buckets[tenant] = (self._bucket_in_all, self._new_bucket(tenant))
        return found

    def _new_bucket(self, tenant: str | None) -> "_Bucket | None":
        rate = self.limit(Quota.REQUESTS_PER_SECOND, tenant)
        return _Bucket(rate, self._clock) if rate else None


class _Bucket:
    """A token bucket that holds what one second brings.

    Args:
        rate: How many a second.
        clock: Returns the time in seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._size = max(rate, 1.0)
        self._level = self._size
        self._clock = clock
        self._filled_at = clock()

    def wait(self) -> float:
        """Returns after how many seconds there is one to take."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return max(0.0, (1.0 - self._level) / self._rate)

    def take(self) -> None:
        """Takes one; if there is none, one of those to come."""
        self._level -= 1.0


def quota_exceeded(
    quota: Quota,
    whose: str,
    setting: str,
    limit: float,
    amount: float,
    *,
    retry_after_seconds: float = RETRY_AFTER_SECONDS,
) -> GradwireError:
    """Returns the error for what a quota does not allow.

    Args:
        quota: Which.
        whose: Of whom, in words.
        setting: The setting that has the limit.
        limit: The limit.
        amount: What would have been used; 0 if that is a rate.
        retry_after_seconds: When to try again.
    """
    if quota is Quota.REQUESTS_PER_SECOND:
        what = f"{whose[0].upper()}{whose[1:]} had too many requests"
    else:
        what = f"{amount:.15g} {quota.replace('_', ' ')} are too much for {whose}"
    facts = {"limit": setting, "value": f"{limit:.15g}"}
    if quota is Quota.MESSAGE_BYTES:
        facts["size"] = f"{amount:.15g}"
    return GradwireError(
        Reason.LIMIT_EXCEEDED,
        f"{what}: the limit {setting} is {limit:.15g}. {_ADVICE[quota]}",
        metadata=facts,
        retry_after_seconds=_LASTING.get(quota, retry_after_seconds),
    )
