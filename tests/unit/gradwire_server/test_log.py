import subprocess
import sys

import pytest

FAIL = """
import sys
import structlog
from gradwire_server.log import configure_logging

def serve(token):
    raise RuntimeError("an accident")

configure_logging(sys.argv[1], "info")
try:
    serve("gw_" + "secret")
except RuntimeError:
    structlog.get_logger("gradwire_server.test").exception("call failed")
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_traces_do_not_show_what_variables_hold(log_format: str) -> None:
    failed = subprocess.run(
        [sys.executable, "-c", FAIL, log_format], capture_output=True, text=True, check=True
    )
    assert "RuntimeError: an accident" in failed.stderr
    assert "gw_secret" not in failed.stderr
