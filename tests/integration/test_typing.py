"""What an editor and a type checker know of the SDK, from the stubs that ship with it."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import gradwire
import gradwire.nn
import gradwire.optim
from gradwire import attributes
from gradwire.v1 import catalog

CLIENT = Path(gradwire.__file__).parent

PROGRAM = """
import gradwire as torch
import gradwire.nn as nn
import gradwire.nn.functional as F
import gradwire.optim as optim

class Net(nn.Module):
    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, hidden, bias=True), nn.Dropout(0.1))
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2, dtype=torch.float32)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs, (_, _) = self.lstm(F.relu(self.layers(inputs)).unsqueeze(1))
        return self.head(outputs[:, -1])

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
inputs = torch.randn(16, 3, device=device)
targets = (inputs.sum(dim=1) > 0).long()
model = Net().to(device)
nn.init.xavier_uniform_(model.head.weight)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
for epoch in range(10):
    optimizer.zero_grad()
    loss = criterion(model(inputs), targets)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    print(epoch, loss.item(), scheduler.get_last_lr())
with torch.no_grad():
    values, indices = model(inputs).max(dim=1)
    accuracy = (indices == targets).float().mean().item()
best = torch.topk(values, 3).values
orthogonal = torch.linalg.qr(torch.eye(3)).Q
spectrum = torch.fft.rfft(best) * 2 - 1j
mixed = 2 / (1 + best**2) @ torch.special.expit(-best)
mixed[0] = 3.5
names: list[str] = [name for name, parameter in model.named_parameters()]
"""
"""A program as users write them; all of its types are right."""

MISTAKES = {
    "torch.reluu(x)": 'has no attribute "reluu"; maybe "relu"',
    "x.squeze(0)": '"Tensor" has no attribute "squeze"',
    "nn.Linaer(3, 1)": 'has no attribute "Linaer"; maybe "Linear"',
    "optim.Admm([x])": 'has no attribute "Admm"',
    "optim.lr_scheduler.StepRL(o, 1)": 'has no attribute "StepRL"',
    "torch.linalg.qrr(x)": 'has no attribute "qrr"',
    'nn.Linear("3", 1)': 'Argument 1 to "Linear" has incompatible type "str"; expected "int"',
    "nn.Linear(3)": 'Missing positional argument "out_features" in call to "Linear"',
    "nn.Linear(3, 1)(x, x)": 'Too many arguments for "__call__" of "Linear"',
    "nn.Conv2d(3, 8, kernel=3)": 'Unexpected keyword argument "kernel" for "Conv2d"',
    'optim.SGD([x], lr="fast")': 'incompatible type "str"',
    "F.softmax()": 'Missing positional argument "input"',
    "torch.relu(3)": 'incompatible type "int"; expected "Tensor"',
    "torch.zeros(2, dtype=float)": "No overload variant",
    "x.view(1.5)": "No overload variant",
    'x + "1"': 'Unsupported operand types for + ("Tensor" and "str")',
    "nn.init.ones_(3)": 'expected "Tensor"',
    "torch.load_library()": 'has no attribute "load_library"',
}
"""Lines that a type checker refuses, and what it says."""

_SETTING = """
import gradwire as torch
import gradwire.nn as nn
import gradwire.nn.functional as F
import gradwire.optim as optim

x = torch.randn(3)
o = optim.SGD([x], lr=0.1)
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of the programs above."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "mistakes.py").write_text(_SETTING + "\n".join(MISTAKES))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "program.py"]
    done = subprocess.run(
        [*command, "mistakes.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_a_program_as_users_write_them_has_no_errors(messages: list[str]) -> None:
    assert [line for line in messages if line.startswith("program.py")] == []


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_found_before_the_program_runs(messages: list[str], line: str) -> None:
    number = _SETTING.count("\n") + 1 + list(MISTAKES).index(line)
    said = [text for text in messages if text.startswith(f"mistakes.py:{number}: ")]
    assert MISTAKES[line] in "\n".join(said)


def stub_names(path: str, of: str | None = None) -> set[str]:
    """Returns the names that a stub, or a class in it, defines or shows."""
    body = ast.parse((CLIENT / path).read_text()).body
    if of is not None:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == of).body
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname for alias in node.names if alias.asname == alias.name)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize(
    "module",
    [
        *("gradwire.fft", "gradwire.linalg", "gradwire.masked", "gradwire.nn"),
        *("gradwire.nn.functional", "gradwire.nn.init", "gradwire.nn.utils"),
        *("gradwire.nn.utils.rnn", "gradwire.optim", "gradwire.optim.lr_scheduler"),
        *("gradwire.signal.windows", "gradwire.sparse", "gradwire.special"),
    ],
)
def test_a_stub_completes_what_its_module_has_and_nothing_else(module: str) -> None:
    path = module.replace("gradwire.", "").replace(".", "/")
    path = f"{path}/__init__.pyi" if (CLIENT / path).is_dir() else f"{path}.pyi"
    assert stub_names(path) == set(importlib.import_module(module).__all__)


def test_the_stub_of_the_package_completes_all_of_its_names() -> None:
    stub = stub_names("__init__.pyi")
    assert {name for name in attributes.names() if not name.startswith("_")} <= stub
    assert all(hasattr(gradwire, name) for name in stub)


def test_the_stub_of_tensors_completes_every_allowed_method_and_nothing_else() -> None:
    named = {f"torch.Tensor.{name}" for name in stub_names("cataloged.pyi", "CatalogedMethods")}
    calling_back = {"grad_fn", "register_hook", "register_post_accumulate_grad_hook"}
    allowed = {*catalog.METHODS, *catalog.PROPERTIES}
    own = {f"torch.Tensor.{name}" for name in vars(gradwire.Tensor)}
    public = {name for name in allowed if not name.rpartition(".")[2].startswith("_")}
    assert public <= named | own
    assert named - allowed == {f"torch.Tensor.{name}" for name in calling_back}


def test_no_stub_hides_what_is_written_by_hand_from_the_type_checker() -> None:
    hidden = {
        f"{path.with_suffix('.py').relative_to(CLIENT)}: {node.name}"
        for path in CLIENT.rglob("*.pyi")
        if "v1" not in path.parts and path.with_suffix(".py").exists()
        for node in ast.parse(path.with_suffix(".py").read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert hidden == {
        "__init__.py: __dir__",
        "__init__.py: __getattr__",
        "cataloged.py: CatalogedMethods",
    }
