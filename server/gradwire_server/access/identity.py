"""Who is calling: known in every call, on every floor of the front, without being passed on.

Whatever a tenant makes carries the tenant's name as its `owner`. Where such a thing is looked up
or listed, `caller().sees(owner)` decides; what a caller does not see is not there.
"""

from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TENANT = "default"
"""The tenant of callers who need no token, or show the server's single one."""


class Role(StrEnum):
    """What a caller may do. See `includes`."""

    ADMIN = "admin"
    """See and use what all tenants have made, and look into the server."""
    USER = "user"
    """Use what the own tenant has made, and make more."""
    READ_ONLY = "read-only"
    """Look at what the own tenant has made, and change nothing."""
    MONITOR = "monitor"
    """Read the metrics, which tell of all tenants, and nothing else. Admins may too."""

    def includes(self, needed: "Role") -> bool:
        """Whether this role may do what the needed one may."""
        if self is Role.ADMIN or self is needed:
            return True
        return self is Role.USER and needed is Role.READ_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who calls.

    Attributes:
        tenant: Whom things made in the call belong to.
        role: What the caller may do.
        token_id: Which token was shown, without giving it away; empty if none was needed.
    """

    tenant: str = DEFAULT_TENANT
    role: Role = Role.USER
    token_id: str = ""

    def sees(self, owner: str) -> bool:
        """Whether what a tenant has made is visible to the caller."""
        return owner == self.tenant or self.role is Role.ADMIN


_caller: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039  # frozen


def caller() -> Caller:
    """Returns who makes the call in progress; an ordinary user of no tenant's outside of calls."""
    return _caller.get()


def enter_call(who: Caller) -> Token[Caller]:
    """Says who makes the call in progress, until its task ends."""
    return _caller.set(who)
