import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gradwire_server.commands import make_app
from gradwire_server.config import Settings


def gradwire(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gradwire_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_setting_is_an_option_of_serve() -> None:
    result = CliRunner().invoke(make_app(), ["serve", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    missing = [
        name for name in Settings.model_fields if f"--{name.replace('_', '-')}" not in result.output
    ]
    assert not missing
    assert "--parent-pid" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("serve", "--workers", "0"), "gradwire: workers: Input should be greater"),
        (("serve", "--config", "/nonexistent"), "gradwire: config file /nonexistent"),
        (("serve", "--address", "0.0.0.0:0"), "--insecure"),
        (("serve", "--tokens-file", "/nonexistent"), "tokens file /nonexistent: "),
        (
            ("serve", "--tls-certificate-file", "/no", "--tls-key-file", "/no"),
            "TLS: cannot read /no: No such file",
        ),
        (("tokens", "new", "--tenant", "A B"), 'tenant: "A B" is no name of a tenant'),
        (("tokens", "new", "--tenant", "a", "--expires", "soon"), 'expires: "soon" is no time'),
        (("info", "--ca-file", "/nonexistent"), "TLS: "),
        (("serve", "--address", "unix:/nonexistent/s"), "cannot listen on"),
        (
            ("serve", "--address", "127.0.0.1:0", "--health-address", "unix:/nonexistent/s"),
            "health_address: cannot listen on unix:/nonexistent/s",
        ),
        (("serve", "--workers", "many"), "--workers"),
        (("sing",), "sing"),
    ],
)
def test_a_mistake_is_told_without_a_trace_and_the_status_is_2(
    arguments: tuple[str, ...], message: str
) -> None:
    result = gradwire(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_told() -> None:
    result = gradwire("version")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("gradwire ")


def test_a_server_that_is_not_there_is_not_healthy() -> None:
    result = gradwire("health", "--address", "unix:/nonexistent/socket")
    assert result.returncode == 1
    assert "UNAVAILABLE" in result.stdout


def test_without_the_parts_of_a_server_it_is_told_what_to_install() -> None:
    script = "import sys; sys.modules['typer'] = None\nfrom gradwire_server.cli import main\n"
    script += "sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "pip install 'gradwire[server]'" in result.stderr


def test_the_front_process_loads_no_torch() -> None:
    script = (
        "import sys, gradwire_server.commands; gradwire_server.commands.make_app(); "
        "sys.exit(' '.join(m for m in sys.modules if m.split('.')[0] == 'torch') or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
