import json
import subprocess
import sys

LOAD = """
import gc, json
from gradwire_server.workers.process import load_late_parts, warm_up
warm_up()
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


TRAIN = """
import copy, sys
import torch
from gradwire.v1 import catalog
from gradwire_server.engine import hot
from gradwire_server.workers.process import warm_up
warm_up()
parameter = torch.nn.Parameter(torch.ones(2, 2))
model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
for name in catalog.OPTIMIZERS.keys() - {"torch.optim.LBFGS", "torch.optim.SparseAdam"}:
    kind = getattr(torch.optim, name.removeprefix("torch.optim."))
    optimizer = kind([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    hot.zero_grad(optimizer)
    optimizer.zero_grad(set_to_none=False)
    hot.backward(torch.nn.functional.cross_entropy(model(parameter), torch.tensor([0, 1])))
    hot.step(optimizer)
    scheduler.step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    hot.step(optimizer)
print([name for name in sys.modules if name in ("torch._dynamo", "sympy")])
"""


def test_ordinary_training_needs_no_compiler() -> None:
    trained = subprocess.run(
        [sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True, timeout=120
    )
    assert trained.stdout.strip() == "[]"
