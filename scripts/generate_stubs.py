"""Regenerates the stubs in client/gradwire/v1 from the contract in protos.

With --check, changes nothing and fails if the stubs there are not the ones that the contract
gives.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("gradwire/v1")
STUBS = ROOT / "client" / PACKAGE


def generate() -> dict[str, str]:
    """Returns the contents of every stub by file name.

    The gRPC plugin writes a file for each .proto, also where there is no service; those are left
    out.
    """
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as output:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"-I{PROTOS}",
                f"--python_out={output}",
                f"--pyi_out={output}",
                f"--grpc_python_out={output}",
                *sources,
            ],
            check=True,
        )
        stubs = {path.name: path.read_text() for path in (Path(output) / PACKAGE).iterdir()}
    return {
        name: text
        for name, text in stubs.items()
        if not name.endswith("_pb2_grpc.py") or "class " in text
    }


def main() -> None:
    """Regenerates or checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if different")
    arguments = parser.parse_args()

    wanted = generate()
    present = {path.name: path.read_text() for path in STUBS.glob("*_pb2*.py*")}
    changed = sorted(name for name, text in wanted.items() if present.get(name) != text)
    stale = sorted(present.keys() - wanted.keys())
    if arguments.check:
        if changed or stale:
            sys.exit(f"stubs differ from protos, run 'make proto': {', '.join(changed + stale)}")
        return
    for name in changed:
        (STUBS / name).write_text(wanted[name])
        print(f"wrote {STUBS.relative_to(ROOT) / name}")
    for name in stale:
        (STUBS / name).unlink()
        print(f"removed {STUBS.relative_to(ROOT) / name}")


if __name__ == "__main__":
    main()
