import pytest

from gradwire.session import Session


@pytest.fixture(autouse=True)
def _in_a_session(session: Session) -> None:
    """Each parity test runs in a session of its own."""
