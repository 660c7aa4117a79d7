"""What came of an entry of a table."""

from collections.abc import Callable
from dataclasses import dataclass, field

import gradwire
import gradwire.errors
from tests.conformance.comparing import DifferenceError, Tolerance
from tests.conformance.running import Agreement, Call, agree
from tests.conformance.sides import NotAllowedError


@dataclass(kw_only=True)
class Outcome:
    """What came of one entry.

    Attributes:
        table: The table, such as ``op_db``.
        name: The entry's name.
        differentiable: Whether the table says that gradients can be computed.
        num_exact: Calls whose numbers were equal to the last bit.
        num_close: Calls whose numbers were equal within torch's tolerance.
        num_raised: Calls that raised on both sides, among `num_exact`.
        num_differentiated: Calls whose gradients were compared.
        not_allowed: The name that is not in the catalog, for each variant that needs one.
        failures: What differed, for each variant and kind of element that differed.
    """

    table: str
    name: str
    differentiable: bool = False
    num_exact: int = 0
    num_close: int = 0
    num_raised: int = 0
    num_differentiated: int = 0
    not_allowed: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def num_calls(self) -> int:
        """How many calls agreed."""
        return self.num_exact + self.num_close

    @property
    def passed(self) -> bool:
        """Whether something was compared, and nothing differed or was missing."""
        return self.num_calls > 0 and not self.failures and not self.not_allowed

    def run(self, label: str, tolerance: Tolerance, call: Call) -> bool:
        """Runs one call and notes what came of it; returns whether the sides agreed.

        Args:
            label: What the call is of the entry: a variant and a kind of element.
            tolerance: How far numbers may be off.
            call: The call.
        """
        return self.note(label, lambda: agree(call, tolerance))

    def note(self, label: str, compare: Callable[[], Agreement]) -> bool:
        """As `run`, for a comparison of another kind."""
        try:
            agreement = compare()
        except NotAllowedError as error:
            self.not_allowed.setdefault(label, error.name)
            return False
        except (DifferenceError, gradwire.errors.GradwireError) as error:
            self.failures.setdefault(label, str(error))
            return False
        self.num_exact += agreement.exact
        self.num_close += not agreement.exact
        self.num_raised += agreement.raised
        self.num_differentiated += agreement.differentiated
        return True
