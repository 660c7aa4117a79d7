"""What a program sees when something is wrong: which error, of which line, and what was applied."""

# What is wrong here is known to be.
# mypy: disable-error-code="arg-type, assignment, attr-defined, call-arg"

import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire
from gradwire import nn, optim
from gradwire.errors import (
    GradwireError,
    LimitError,
    OperationError,
    RequestError,
)
from gradwire.session import Session
from gradwire.v1 import server_pb2, server_pb2_grpc
from tests.processes import ServerProcess

pytestmark = pytest.mark.usefixtures("session")


def line_of(function: Callable[..., Any], text: str) -> int:
    """Returns the number of the line of a function that contains a text."""
    lines, first = inspect.getsourcelines(function)
    (found,) = [number for number, line in enumerate(lines, first) if text in line]
    return found


def wrong_shape() -> Any:
    return gradwire.ones(2, 3) @ gradwire.ones(2, 3)


def wrong_dtype() -> Any:
    return nn.Linear(2, 1)(gradwire.ones(1, 2, dtype=gradwire.int64))


def bad_index() -> Any:
    return gradwire.ones(3)[7]


def backward_twice() -> Any:
    x = gradwire.ones(2, requires_grad=True)
    loss = (x.exp() * x).sum()
    loss.backward()
    loss.backward()
    return x.grad


def bad_option() -> Any:
    return gradwire.nn.functional.interpolate(gradwire.ones(1, 1, 4), mode="bicubic", size=8)


@pytest.mark.parametrize(
    ("function", "text", "kind"),
    [
        (wrong_shape, "@", RuntimeError),
        (wrong_dtype, "Linear", RuntimeError),
        (bad_index, "[7]", IndexError),
        (backward_twice, "return x.grad", RuntimeError),
        (bad_option, "interpolate", NotImplementedError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_error_names_the_line_that_recorded_the_operation(
    function: Callable[[], Any], text: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        print(function())

    error = caught.value
    assert isinstance(error, OperationError)
    assert error.source is not None
    assert error.source.filename == __file__
    assert error.source.function == function.__name__
    if function is not backward_twice:
        assert error.source.line == line_of(function, text)
    assert f'File "{__file__}", line {error.source.line}, in {function.__name__}' in str(error)


def test_backward_twice_names_the_second_backward() -> None:
    with pytest.raises(RuntimeError, match="backward through the graph a second time") as caught:
        print(backward_twice())

    assert isinstance(caught.value, OperationError)
    assert caught.value.source is not None
    assert caught.value.source.line == line_of(backward_twice, "return x.grad") - 1


def test_everything_before_the_failing_operation_is_applied_and_nothing_after(
    session: Session,
) -> None:
    x = gradwire.zeros(2)
    session.flush()
    x += 1
    x.view(3)
    x += 10

    with pytest.raises(RuntimeError, match=r"shape '\[3\]' is invalid"):
        session.flush()

    assert x.tolist() == [1.0, 1.0]


def test_nothing_after_a_failure_is_applied_across_programs(session: Session) -> None:
    x = gradwire.zeros(1)
    model = nn.Linear(1, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    session.flush()
    bad = gradwire.ones(2) @ gradwire.ones(3)
    optimizer.step()
    x += 1
    session.cut()
    x += 1

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        session.flush()

    assert x.item() == 0.0
    with pytest.raises(RuntimeError, match=r"never computed.*inconsistent tensor size"):
        print(bad)


def test_the_session_goes_on_after_an_error() -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError):
            print(wrong_shape())
        model = nn.Linear(2, 1)
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        assert model(gradwire.ones(1, 2)).tolist() == [[2.0]]


def test_a_value_whose_creation_failed_raises_the_first_error_when_it_is_used() -> None:
    broken = wrong_shape()
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        print(broken)

    for use in (lambda: broken + 1, lambda: broken.shape, lambda: print(broken)):
        with pytest.raises(OperationError, match=r"never computed.*cannot be multiplied") as caught:
            use()
        assert caught.value.source is not None
        assert caught.value.source.function == "wrong_shape"
        assert isinstance(caught.value.__cause__, OperationError)


def test_an_error_that_nobody_waits_for_surfaces_at_a_later_step(session: Session) -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    session.flush()
    before = model.weight.tolist()
    wrong_shape()

    def train() -> None:
        for _ in range(10_000):
            model(gradwire.ones(1, 2)).sum().backward()
            optimizer.step()

    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        train()

    assert isinstance(caught.value, OperationError)
    assert caught.value.source is not None
    assert caught.value.source.function == "wrong_shape"
    assert model.weight.tolist() == before
    session.flush()


def test_each_failure_is_raised_once(session: Session) -> None:
    wrong_shape()
    wrong_shape()
    with pytest.raises(RuntimeError):
        session.flush()

    session.flush()


def test_a_name_that_is_not_in_the_catalog_is_named(session: Session) -> None:
    session.record("torch.nn.Linaer", (2, 1), {})

    with pytest.raises(RequestError, match=r"'torch\.nn\.Linaer' is not in the catalog") as caught:
        session.flush()

    assert isinstance(caught.value, ValueError)
    assert caught.value.reason == "UNKNOWN_NAME"
    assert "torch.nn.Linear" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gradwire.add(gradwire.ones(2), "a"), r"torch\.add\(input, other, \*, alpha=1"),
        (
            lambda: nn.functional.cross_entropy(gradwire.ones(2)),
            r"cross_entropy\(input, target, we",
        ),
        (lambda: nn.functional.linear(gradwire.ones(2)), r"linear\(input, weight, bias=None\)"),
        (lambda: nn.Linear(3), r"torch\.nn\.Linear\(in_features, out_features, bias=True"),
        (lambda: nn.Linear(3, 4, bais=True), r"torch\.nn\.Linear\(in_features, out_features"),
        (lambda: nn.Linear(2, 2)(gradwire.ones(2), 1), r"Linear\.forward\(self, input"),
        (lambda: nn.init.normal_(gradwire.ones(2), men=1), r"init\.normal_\(tensor, mean=0\.0"),
        (lambda: optim.SGD([gradwire.ones(2)], lrate=1), r"optim\.SGD\(params, lr=0\.001"),
        (lambda: gradwire.ones(2).view(), r"tuple of ints size"),
        (gradwire.relu, r"relu\(Tensor self\)"),
    ],
)
def test_arguments_of_the_wrong_number_or_kind_show_the_signature(
    call: Callable[[], Any], text: str, session: Session
) -> None:
    call()
    with pytest.raises(TypeError, match=text):
        session.flush()


def test_a_name_that_gradwire_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gradwire' has no attribute 'no_such_thing'"):
        _ = gradwire.no_such_thing
    with pytest.raises(AttributeError, match=r"'gradwire\.nn' has no attribute 'Linaer'.*Linear"):
        _ = nn.Linaer
    with pytest.raises(AttributeError, match=r"'sofmax'; did you mean softmax"):
        _ = nn.functional.sofmax
    with pytest.raises(AttributeError, match=r"'rellu'; did you mean relu"):
        _ = gradwire.rellu
    with pytest.raises(AttributeError, match=r"'gradwire\.optim' has no attribute 'Adma'"):
        _ = optim.Adma
    with pytest.raises(AttributeError, match=r"'Tensor' object has no attribute 'shpae'.*shape"):
        _ = gradwire.ones(1).shpae


def peak_bytes(session: Session) -> int:
    """Returns the most memory that the session's worker has ever had."""
    stub = server_pb2_grpc.ServerServiceStub(session.channel)
    (worker,) = stub.GetServerInfo(server_pb2.GetServerInfoRequest()).workers
    status = Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found
    return 1024 * int(found[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(10**9, 10**9),
        lambda: gradwire.zeros(10**6, 10**6),
        lambda: gradwire.ones(2).expand(10**12, 2).clone(),
        lambda: nn.Embedding(10**12, 64),
    ],
    ids=["linear", "zeros", "clone", "embedding"],
)
def test_what_does_not_fit_is_refused_before_it_is_allocated(
    make: Callable[[], Any], session: Session
) -> None:
    gradwire.ones(2).sum().item()
    before = peak_bytes(session)
    with pytest.raises((LimitError, OperationError)):
        make().__repr__()

    # What torch loads to find out how much would be needed is far less than that.
    assert peak_bytes(session) - before < 256 * 2**20
    assert gradwire.ones(2).sum().item() == 2.0


def test_a_layer_over_the_limit_names_the_limit(session: Session) -> None:
    layer = nn.Linear(10**9, 10**9)
    layer(gradwire.ones(1, 10**3))

    with pytest.raises(LimitError, match="max_session_bytes") as caught:
        session.flush()

    assert isinstance(caught.value, MemoryError)
    assert caught.value.source is not None
    assert caught.value.source.filename == __file__


def test_a_message_that_is_too_long_names_the_limit_and_the_session_goes_on(
    tmp_path: Path,
) -> None:
    with (
        ServerProcess(tmp_path, max_message_bytes=100_000) as server,
        gradwire.connect(server.address) as session,
    ):
        kept = gradwire.arange(3)
        session.flush()
        # Tensors go in parts, but a program is one message.
        large = kept[[0] * 50_000]
        with pytest.raises(LimitError, match="max_message_bytes"):
            large.sum().item()

        assert kept.tolist() == [0, 1, 2]
        assert gradwire.tensor(np.ones(1000, np.float32)).sum().item() == 1000.0
        with pytest.raises(LimitError, match="never computed"):
            print(large)


def test_steps_before_backward_are_silent_as_in_torch() -> None:
    model = nn.Linear(2, 1)
    before = model.weight.tolist()
    optim.SGD(model.parameters(), lr=0.1).step()

    assert model.weight.tolist() == before


def test_nan_and_infinity_are_values_like_others(session: Session) -> None:
    x = gradwire.tensor([math.nan, math.inf, -math.inf, -0.0])
    values = x.tolist()

    assert math.isnan(values[0])
    assert values[1:3] == [math.inf, -math.inf]
    assert math.copysign(1.0, values[3]) == -1.0
    assert repr(x * 2) == "tensor([nan, inf, -inf, -0.])"
    assert (x + math.inf).tolist()[1:] == pytest.approx([math.inf, math.nan, math.inf], nan_ok=True)
    assert math.isnan((gradwire.zeros(1) / gradwire.zeros(1)).item())
    assert gradwire.full((1,), math.nan).isnan().item() is True


def test_what_can_not_be_sent_is_refused_at_once(session: Session) -> None:
    x = gradwire.ones(2)
    for argument, kind in [
        (object(), TypeError),
        (lambda: 1, TypeError),
        (2**70, OverflowError),
        ({1: 2}, TypeError),
        (np.array(["text"]), TypeError),
    ]:
        with pytest.raises(kind):
            gradwire.add(x, argument)

    assert (x + 1).tolist() == [2.0, 2.0]
    assert (x + 1).tolist() == [2.0, 2.0]


def test_a_refused_argument_leaves_the_recorded_operations_as_they_were(session: Session) -> None:
    x, y = gradwire.ones(2), gradwire.ones(2)
    session.flush()
    for _ in range(2):
        with pytest.raises(TypeError):
            gradwire.add(x, object())
        assert (y * 3).tolist() == [3.0, 3.0]
        assert (y * 3).tolist() == [3.0, 3.0]


def test_all_errors_of_the_server_are_errors_of_gradwire(session: Session) -> None:
    with pytest.raises(GradwireError):
        session.fetch("gradwire.getattr", (gradwire.ones(1), "_private"), {})
    with pytest.raises(AttributeError, match="_private"):
        session.fetch("gradwire.getattr", (gradwire.ones(1), "_private"), {})


def test_many_values_are_fetched_at_once() -> None:
    layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(600)])

    assert len(list(layers.parameters())) == 1200


def test_a_large_array_among_the_arguments_is_no_special_case(session: Session) -> None:
    large = np.ones(400_000, np.float32)
    total = gradwire.zeros(400_000)
    for _ in range(5):
        total = total + large

    assert total.sum().item() == 2_000_000.0
    assert gradwire.cat([total, gradwire.tensor(large)])[-1].item() == 1.0


def test_a_failure_that_shows_while_arguments_are_sent_leaves_the_tape_in_order(
    session: Session,
) -> None:
    large = np.ones(400_000, np.float32)
    x = gradwire.zeros(1)
    session.flush()
    wrong_shape()
    session.cut()

    def add_often(y: Any) -> None:
        for _ in range(30):
            y = (y + large).sum().reshape(1)
        print(y)

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        add_often(x + 1)

    assert (x + 1).tolist() == [1.0]


def test_a_layer_of_the_script_inside_a_module_that_the_server_calls_is_refused(
    session: Session,
) -> None:
    class Layer(nn.TransformerEncoderLayer):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs) + 1

    with pytest.raises(TypeError, match="encoder_layer: TransformerEncoder runs on the server as"):
        nn.TransformerEncoder(Layer(4, 2, 8), 1)
    assert session.name


def test_a_module_that_was_never_made_is_no_error_of_others(session: Session) -> None:
    good = nn.Linear(2, 2)
    bad = nn.Linear(3)
    with pytest.raises(TypeError, match="out_features"):
        session.flush()
    other = nn.Linear(2, 1)

    assert other.weight.shape == (1, 2)
    assert good.weight.shape == (2, 2)
    with pytest.raises(TypeError, match="out_features"):
        _ = bad.weight
