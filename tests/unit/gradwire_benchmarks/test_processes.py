import subprocess
import sys

PARENT = """
import os
from gradwire_benchmarks.processes import make_process
if __name__ == "__main__":
    executor = make_process()
    print(executor.submit(os.getpid).result(), flush=True)
    input()
"""


def test_a_process_ends_when_the_one_that_made_it_is_killed(tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip().isdigit()

        parent.kill()

        # Both hold the other end of it.
        assert parent.stdout.read() == ""
