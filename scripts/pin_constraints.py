"""Renews constraints.txt: installs everything into a fresh environment and pins what came.

torch is given, not chosen: a new torch means new tables of operations, so it is a decision.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = """\
# The versions that gradwire is developed and tested with; `make constraints` renews them.
# Everything that installs from this tree uses them: pip install -c constraints.txt '.[server]'
"""


def pin(torch_version: str, extras: str) -> list[str]:
    """Returns `name==version` of all that an editable install with `extras` brings in.

    Versions of one machine's own builds are pinned without their local part ("+cpu"), so that
    each machine finds the build it needs.
    """
    build_requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        python = str(environment / "bin" / "python")
        given = Path(folder) / "given.txt"
        given.write_text(f"torch=={torch_version}\n")
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", str(given)]
        subprocess.run([*install, "--upgrade", "pip"], check=True)
        subprocess.run([*install, *build_requirements["requires"]], check=True)
        subprocess.run([*install, "--editable", f"{ROOT}[{extras}]"], check=True)
        frozen = subprocess.run(
            [python, "-m", "pip", "freeze", "--all", "--exclude", "gradwire"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    return [line.split("+")[0] for line in frozen.splitlines() if "==" in line]


def main() -> None:
    """Renews the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True, help="the version of torch to pin")
    parser.add_argument("--extras", required=True, help="extras to install, by commas")
    arguments = parser.parse_args()
    pins = pin(arguments.torch, arguments.extras)
    if not any(line.startswith("torch==") for line in pins):
        sys.exit("the install brought no torch; constraints.txt was left alone")
    CONSTRAINTS.write_text(HEADER + "\n".join(pins) + "\n")


if __name__ == "__main__":
    main()
