from dataclasses import fields

import pytest

from gradwire_server.access.quotas import MESSAGE_RETRY_SECONDS, Quota, Quotas
from gradwire_server.errors import GradwireError, Reason
from gradwire_server.limits import Limits


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(quotas: Quotas, quota: Quota, tenant: str, amount: float = 1) -> str:
    """Returns the setting that refuses to give something out."""
    with pytest.raises(GradwireError) as caught:
        quotas.take(quota, tenant, amount)
    error = caught.value
    assert error.reason is Reason.LIMIT_EXCEEDED
    assert error.metadata["limit"] in error.message
    assert error.retry_after_seconds
    return error.metadata["limit"]


def test_every_quota_has_a_limit_in_all_and_one_of_each_tenant() -> None:
    names = {field.name for field in fields(Limits)}
    for quota in Quota:
        assert {quota.in_all, quota.of_tenant} <= names


def test_a_tenant_is_refused_what_is_too_much_and_others_are_not() -> None:
    quotas = Quotas(Limits(max_tenant_sessions=2, max_sessions=3))
    quotas.take(Quota.SESSIONS, "acme")
    quotas.take(Quota.SESSIONS, "acme")
    assert refused(quotas, Quota.SESSIONS, "acme") == "max_tenant_sessions"
    quotas.take(Quota.SESSIONS, "other")
    assert refused(quotas, Quota.SESSIONS, "other") == "max_sessions"
    quotas.give_back(Quota.SESSIONS, "acme")
    quotas.take(Quota.SESSIONS, "other")
    assert quotas.used(Quota.SESSIONS) == 3
    assert quotas.used(Quota.SESSIONS, "other") == 2


def test_what_is_refused_is_not_counted() -> None:
    quotas = Quotas(Limits(max_runs=1))
    with quotas.holding(Quota.RUNS, "acme"):
        assert refused(quotas, Quota.RUNS, "other") == "max_runs"
        assert quotas.used(Quota.RUNS) == 1
        assert quotas.users(Quota.RUNS) == {"acme": 1}
    assert quotas.used(Quota.RUNS) == 0
    assert quotas.users(Quota.RUNS) == {}


def test_no_limit_refuses_nothing() -> None:
    quotas = Quotas(Limits())
    quotas.take(Quota.BYTES, "acme", 1 << 60)
    for _ in range(1000):
        quotas.take_request("acme")
        assert quotas.delay_of_request("acme") == 0


def test_a_tenant_may_have_a_limit_of_its_own() -> None:
    quotas = Quotas(Limits(max_tenant_runs=1), {"acme": {"max_runs": 2}})
    for _ in range(2):
        quotas.take(Quota.RUNS, "acme")
    quotas.take(Quota.RUNS, "other")
    assert refused(quotas, Quota.RUNS, "acme") == "max_tenant_runs"
    assert refused(quotas, Quota.RUNS, "other") == "max_tenant_runs"


def test_requests_are_refused_until_time_has_passed() -> None:
    clock = Clock()
    quotas = Quotas(Limits(max_tenant_requests_per_second=10), clock=clock)
    for _ in range(10):
        quotas.take_request("acme")
    with pytest.raises(GradwireError) as caught:
        quotas.take_request("acme")
    assert caught.value.retry_after_seconds == pytest.approx(0.1)
    quotas.take_request("other")
    clock.now += 0.1
    quotas.take_request("acme")
    with pytest.raises(GradwireError):
        quotas.take_request("acme")


def test_requests_that_wait_wait_the_longer_the_more_they_are() -> None:
    clock = Clock()
    quotas = Quotas(Limits(max_requests_per_second=2), clock=clock)
    delays = [quotas.delay_of_request("acme") for _ in range(5)]
    assert delays == pytest.approx([0, 0, 0.5, 1.0, 1.5])


def test_a_message_that_is_too_large_is_not_to_be_sent_again_soon() -> None:
    quotas = Quotas(Limits(max_message_bytes=100, max_tenant_message_bytes=50))
    quotas.check_message(50, "acme")
    for size, setting in ((51, "max_tenant_message_bytes"), (101, "max_message_bytes")):
        with pytest.raises(GradwireError, match=setting) as caught:
            quotas.check_message(size, "acme")
        assert caught.value.retry_after_seconds == MESSAGE_RETRY_SECONDS
