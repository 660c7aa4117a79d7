"""What the sessions of a worker hold together, held against the quotas of their tenants."""

from collections.abc import Iterable, Mapping

from gradwire_server.access.quotas import Quota, Quotas, quota_exceeded
from gradwire_server.engine.memory import Budget


class Holdings:
    """The budgets of all sessions, by tenant.

    Args:
        quotas: The quotas in force.

    Attributes:
        elsewhere: What tenants hold on other workers, in bytes, as far as it is known.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._budgets: dict[str, list[Budget]] = {}
        self.elsewhere: Mapping[str, int] = {}

    def add(self, tenant: str, budget: Budget) -> None:
        """Takes in the budget of a new session."""
        self._budgets.setdefault(tenant, []).append(budget)
        limits = (self._quotas.limit(Quota.BYTES, whose) for whose in (None, tenant))
        if any(limits):
            budget.share_with(lambda needed_bytes: self._reserve(tenant, needed_bytes))

    def remove(self, tenant: str, budget: Budget) -> None:
        """Forgets the budget of a session that has ended."""
        budgets = self._budgets[tenant]
        budgets.remove(budget)
        if not budgets:
            del self._budgets[tenant]

    def measure(self) -> dict[str, int]:
        """Returns how many bytes each tenant holds here, counted now."""
        return {
            tenant: sum(budget.measure() for budget in budgets)
            for tenant, budgets in self._budgets.items()
        }

    def _reserve(self, tenant: str, needed_bytes: int) -> None:
        """Raises LIMIT_EXCEEDED if a tenant may not hold so many more bytes."""
        everybody = [each for budgets in self._budgets.values() for each in budgets]
        self._require(tenant, self._budgets[tenant], self.elsewhere.get(tenant, 0), needed_bytes)
        self._require(None, everybody, sum(self.elsewhere.values()), needed_bytes)

    def _require(
        self, tenant: str | None, budgets: Iterable[Budget], elsewhere: int, needed_bytes: int
    ) -> None:
        limit = self._quotas.limit(Quota.BYTES, tenant)
        if not limit:
            return
        budgets = list(budgets)
        rest = limit - elsewhere - needed_bytes
        # Estimates count what is long released, so they are made good before anything is refused.
        if sum(budget.estimate_bytes for budget in budgets) <= rest:
            return
        held = sum(budget.measure() for budget in budgets)
        if held > rest:
            setting = Quota.BYTES.in_all if tenant is None else Quota.BYTES.of_tenant
            whose = "all tenants together" if tenant is None else f"the tenant {tenant}"
            amount = elsewhere + held + needed_bytes
            raise quota_exceeded(Quota.BYTES, whose, setting, limit, amount)
