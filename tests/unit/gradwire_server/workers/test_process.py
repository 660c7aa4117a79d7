import json
import subprocess
import sys

LOAD = """
import gc, json
from gradwire_server.workers.process import load_late_parts
load_late_parts()
print(json.dumps([gc.get_freeze_count(), len(gc.get_objects())]))
"""


def test_collections_at_the_end_of_sessions_look_at_little() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD], capture_output=True, text=True, check=True, timeout=120
    )
    num_frozen, num_looked_at = json.loads(loaded.stdout)
    assert num_frozen > 100_000
    assert num_looked_at < num_frozen / 100


def test_a_worker_does_not_load_what_compiles_steps_since_another_process_does() -> None:
    script = (
        "import sys, gradwire_server.workers.process as process; process.load_late_parts(); "
        "print('torch._inductor.lowering' in sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert loaded.stdout == "False\n"
