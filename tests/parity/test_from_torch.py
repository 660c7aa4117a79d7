"""Modules of a local torch that were handed over train as they do locally, to the last bit."""

import copy
import dataclasses
import sys
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradwire
from gradwire.errors import CaptureError, LimitError
from tests.parity.comparing import comparable
from tests.processes import ServerProcess

Loss = Callable[[Any, Any, Any], Any]


def steps(package: Any, model: Any, batches: Sequence[Any], loss: Loss) -> list[float]:
    """Takes a training step on each batch, then evaluates on each; returns all losses."""
    package.manual_seed(7)
    optimizer = package.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        value = loss(package, model, batch)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    model.eval()
    losses += [loss(package, model, batch).item() for batch in batches]
    model.train()
    return losses


def assert_trains_the_same(
    module: nn.Module, example: Any, batches: Sequence[Any], loss: Loss
) -> Any:
    """Asserts that losses, weights and buffers are those of the local module; returns the other."""
    local = copy.deepcopy(module)
    remote = gradwire.from_torch(module, example)
    expected = steps(torch, local, batches, loss)
    assert steps(gradwire, remote, batches, loss) == expected
    assert len(set(expected)) > 2
    fresh = gradwire.to_torch(remote, into=copy.deepcopy(module))
    assert_same_state(fresh, local)
    return remote


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


def assert_same_output(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Asserts that a module returns on the server what it returns locally; returns the former."""
    remote = gradwire.from_torch(module, args, kwargs)
    torch.manual_seed(3)
    gradwire.manual_seed(3)
    outputs = remote(*args, **kwargs)
    assert comparable(outputs) == comparable(module(*args, **kwargs))
    return outputs


def images(batch: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    pixels = torch.randn(batch, 3, size, size, generator=generator)
    return pixels, torch.randint(0, 10, (batch,), generator=generator)


def tokens(batch: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 * batch + length)
    return torch.randint(0, 40, (batch, length), generator=generator)


def classification(package: Any, model: Any, batch: Any) -> Any:
    inputs, targets = batch
    return package.nn.functional.cross_entropy(model(inputs), package.as_tensor(targets))


class Block(nn.Module):
    """A residual block as in He et al., "Deep Residual Learning"."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Any) -> Any:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.blocks = nn.ModuleList([Block(8, 8), Block(8, 16, 2)])
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(self.dropout(x.view(x.shape[0], -1)))


class LanguageModel(nn.Module):
    """An LSTM whose output layer shares the weight of its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 16)
        self.lstm = nn.LSTM(16, 16, num_layers=2, dropout=0.2, batch_first=True)
        self.output = nn.Linear(16, 40)
        self.output.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor, state: Any = None) -> Any:
        hidden, state = self.lstm(self.embedding(ids), state)
        return self.output(hidden), state


def next_token(package: Any, model: Any, ids: torch.Tensor) -> Any:
    logits, _ = model(ids[:, :-1])
    targets = package.as_tensor(ids[:, 1:].clone())
    return package.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class TestTraining:
    def test_a_resnet_with_batches_and_images_of_other_sizes(self) -> None:
        torch.manual_seed(0)
        remote = assert_trains_the_same(
            ResNet(), images(4)[0], [images(4), images(6), images(3, 12)], classification
        )
        assert remote.blocks[1].norm1.num_batches_tracked.item() == 3

    def test_an_lstm_language_model_with_sequences_of_other_lengths(self) -> None:
        torch.manual_seed(0)
        batches = [tokens(2, 8), tokens(3, 5), tokens(1, 11), tokens(2, 2)]
        remote = assert_trains_the_same(LanguageModel(), tokens(2, 8), batches, next_token)
        assert remote.output.weight is remote.embedding.weight
        assert len(list(remote.parameters())) == len(list(LanguageModel().parameters()))
        assert sum(map(len, remote._graphs.values())) == 2

    @pytest.mark.parametrize("norm_first", [False, True], ids=["norm after", "norm before"])
    def test_a_transformer_encoder(self, norm_first: bool) -> None:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first)
        module = nn.Sequential(
            nn.Embedding(40, 16),
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            nn.Linear(16, 40),
        )

        def loss(package: Any, model: Any, ids: torch.Tensor) -> Any:
            targets = package.as_tensor(ids).flatten()
            return package.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets)

        assert_trains_the_same(module, tokens(2, 5), [tokens(2, 5), tokens(3, 9)], loss)

    def test_in_a_loop_on_the_server(self) -> None:
        torch.manual_seed(0)
        module: Any = ResNet()
        local = copy.deepcopy(module)
        remote = gradwire.from_torch(module, images(4)[0])
        inputs, targets = images(10)
        result = gradwire.train(
            remote,
            (inputs, targets),
            exact=True,
            loss=gradwire.nn.CrossEntropyLoss(),
            optimizer=gradwire.optim.SGD(remote.parameters(), lr=0.1, momentum=0.9),
            epochs=2,
            batch_size=4,
            shuffle=False,
            seed=5,
            progress=False,
        )
        torch.manual_seed(5)
        optimizer = torch.optim.SGD(local.parameters(), lr=0.1, momentum=0.9)
        dataset = torch.utils.data.TensorDataset(inputs, targets)
        loader = torch.utils.data.DataLoader(dataset, batch_size=4)
        expected = []
        for _ in range(2):
            for batch, labels in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(local(batch), labels)
                loss.backward()
                optimizer.step()
                expected.append(loss.item())
        assert result.losses == expected
        assert_same_state(gradwire.to_torch(remote), local)

    def test_within_a_module_of_ones_own(self) -> None:
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh())
        head = nn.Linear(8, 2)

        class Local(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = copy.deepcopy(body)
                self.head = copy.deepcopy(head)

            def forward(self, x: Any) -> Any:
                return self.head(self.body(x))

        class Remote(gradwire.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = gradwire.from_torch(body, torch.randn(3, 4))
                self.head = gradwire.from_torch(head, torch.randn(3, 8))

            def forward(self, x: Any) -> Any:
                return self.head(self.body(x))

        generator = torch.Generator().manual_seed(1)
        batches = [(torch.randn(5, 4, generator=generator), torch.tensor([0, 1, 1, 0, 1]))] * 3
        remote, local = Remote(), Local()
        expected = steps(torch, local, batches, classification)
        assert steps(gradwire, remote, batches, classification) == expected
        assert list(remote.state_dict()) == list(local.state_dict())
        result = gradwire.train(
            remote,
            batches[0],
            exact=True,
            loss=gradwire.nn.CrossEntropyLoss(),
            optimizer=gradwire.optim.SGD(remote.parameters(), lr=0.1),
            progress=False,
        )
        assert result.num_steps == 1

    def test_with_frozen_parameters(self) -> None:
        torch.manual_seed(0)
        module: Any = ResNet()
        module.stem.requires_grad_(False)
        module.blocks.requires_grad_(False)
        local = copy.deepcopy(module)
        remote = gradwire.from_torch(module, images(4)[0])
        remote.head.bias.requires_grad_(False)
        local.head.bias.requires_grad_(False)
        assert [p.requires_grad for p in remote.parameters()] == [
            p.requires_grad for p in local.parameters()
        ]
        trainable = [
            [p for p in model.parameters() if p.requires_grad] for model in (local, remote)
        ]
        losses = []
        for package, model, chosen in zip(
            (torch, gradwire), (local, remote), trainable, strict=True
        ):
            package.manual_seed(1)
            optimizer = package.optim.SGD(chosen, lr=0.5)
            for batch in (images(4), images(5)):
                optimizer.zero_grad()
                loss = classification(package, model, batch)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert losses[:2] == losses[2:]
        assert_same_state(gradwire.to_torch(remote), local)

    def test_with_part_of_it_in_evaluation_mode(self) -> None:
        torch.manual_seed(0)
        module: Any = ResNet()
        local = copy.deepcopy(module)
        remote = gradwire.from_torch(module, images(4)[0])
        for model in (local, remote):
            for part in model.modules():
                if repr(part).startswith("BatchNorm"):
                    part.eval()
        outputs = []
        for package, model in ((torch, local), (gradwire, remote)):
            package.manual_seed(2)
            outputs.append(model(images(4)[0]))
        assert comparable(outputs[0]) == comparable(outputs[1])
        assert remote.blocks[0].norm1.num_batches_tracked.item() == 0
        assert module.blocks[0].norm1.training


class Everything(nn.Module):
    """What strangers put into a module: plain attributes, buffers, constants, contexts, shapes."""

    calls: Any
    average: Any

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("average", torch.zeros(4), persistent=False)
        self.table = torch.arange(4.0)
        self.words = {"a": 1}

    def forward(self, x: torch.Tensor, *, double: bool = False, bias: float = 0.0) -> Any:
        self.calls += 1
        with torch.no_grad():
            self.average.mul_(0.9).add_(x.mean(0), alpha=0.1)
        y = x * self.scale + self.table + bias + torch.tensor([1.0, 2.0, 3.0, 4.0])
        if x.shape[0] > 3:
            y = y[: x.shape[0] // 2] - 1
        if double:
            y = y * 2
        noise = torch.rand(x.shape[0], 4)
        return {"y": y, "rows": x.shape[0], "noise": noise, "pair": (y.sum(), None), "name": "e"}


Pair = namedtuple("Pair", "first second")  # noqa: PYI024


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    hidden: list[torch.Tensor]


torch.utils._pytree.register_dataclass(Result)


class TestAForward:
    def test_may_use_constants_buffers_shapes_and_random_numbers(self) -> None:
        torch.manual_seed(0)
        module = Everything()
        local = copy.deepcopy(module)
        remote = gradwire.from_torch(module, torch.randn(2, 4))
        for rows in (2, 3, 4, 7, 1):
            for options in ({}, {"double": True}, {"bias": 0.5}):
                x = torch.randn(rows, 4)
                torch.manual_seed(rows)
                gradwire.manual_seed(rows)
                assert comparable(remote(x, **options)) == comparable(local(x, **options))
        assert_same_state(gradwire.to_torch(remote), local)
        assert torch.equal(module.average, local.average)
        assert "average" not in remote.state_dict()

    def test_may_replace_buffers_but_keeps_no_other_attributes(self) -> None:
        class Replaces(nn.Module):
            mean: Any

            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.BatchNorm1d(3)
                self.register_buffer("mean", torch.zeros(3))
                self.calls = 0

            def forward(self, x: Any) -> Any:
                if self.training:
                    self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
                return self.inner(x) - self.mean

        class Remembers(Replaces):
            def forward(self, x: Any) -> Any:
                self.calls += 1
                self.last = x
                return x

        local: Any = Replaces()
        local.last = torch.zeros(1)
        remote = gradwire.from_torch(copy.deepcopy(local), torch.rand(2, 3))
        x = torch.rand(4, 3)
        for rows in (2, 4):
            assert comparable(remote(x[:rows])) == comparable(local(x[:rows]))
        assert comparable(remote.eval()(x)) == comparable(local.eval()(x))
        module: Any = Remembers()
        module.last = None
        with pytest.warns(UserWarning, match="Remembers.forward changes calls, last, which"):
            gradwire.from_torch(module, torch.rand(2, 3))
        assert module.calls == 0
        assert module.last is None

    def test_returns_the_structures_that_it_returns_locally(self) -> None:
        class Structures(nn.Module):
            def forward(self, x: Any) -> Any:
                high = torch.max(x, 1)
                return Pair(x + 1, [x, (x,)]), Result(x * 2, [x, x]), high, {"k": {"n": x}}, 3

        first, second, high, nested, number = gradwire.from_torch(Structures(), torch.rand(2, 3))(
            torch.ones(4, 3)
        )
        assert isinstance(first, Pair)
        assert first.second[1][0].shape == (4, 3)
        assert isinstance(second, Result)
        assert second.logits.sum().item() == 24
        assert high.values.tolist() == [1, 1, 1, 1]
        assert nested["k"]["n"].shape == (4, 3)
        assert number == 3

    def test_takes_lists_dicts_arrays_and_tensors_of_the_server(self) -> None:
        class Mixed(nn.Module):
            def forward(self, parts: list[Any], options: dict[str, Any], **extra: Any) -> Any:
                total = sum(parts) * options["by"]
                return total + extra["shift"] if "shift" in extra else total

        ones = np.ones((2, 3), np.float32)
        example = ([torch.ones(2, 3), torch.ones(2, 3)], {"by": torch.tensor(2.0)})
        remote = gradwire.from_torch(Mixed(), example)
        assert remote([ones, torch.ones(2, 3)], {"by": gradwire.tensor(3.0)}).sum().item() == 36
        assert remote([ones] * 3, {"by": 2.0}, shift=gradwire.ones(2, 3)).sum().item() == 42

    def test_does_not_take_one_input_for_another(self) -> None:
        class Both(nn.Module):
            def forward(self, a: Any, b: Any) -> Any:
                return a - 2 * b

        same = torch.ones(2)
        remote = gradwire.from_torch(Both(), (same, same))
        assert remote(torch.ones(2), torch.zeros(2)).tolist() == [1, 1]

    @pytest.mark.parametrize("size", [1, 3, 9])
    def test_branches_on_shapes_as_locally(self, size: int) -> None:
        class Branches(nn.Module):
            def forward(self, x: Any) -> Any:
                if x.shape[1] > 5:
                    return x[:, ::2].sum(1)
                return torch.stack([x[:, i] * i for i in range(x.shape[1])]).sum(0)

        remote = gradwire.from_torch(Branches(), torch.rand(2, 3))
        x = torch.rand(2, size)
        assert comparable(remote(x)) == comparable(Branches()(x))

    def test_gives_gradients_to_inputs(self) -> None:
        module = nn.Linear(3, 2)
        remote = gradwire.from_torch(module, torch.rand(2, 3))
        x = gradwire.ones(2, 3, requires_grad=True)
        remote(x).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [module.weight.sum(0).tolist()] * 2

    def test_runs_under_autocast_and_no_grad(self) -> None:
        module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        remote = gradwire.from_torch(module, torch.rand(2, 4))
        x = torch.rand(3, 4)
        with gradwire.autocast("cpu", dtype=gradwire.bfloat16):
            half = remote(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert comparable(half) == comparable(module(x))
        with gradwire.no_grad():
            assert not remote(x).requires_grad

    def test_may_enter_autocast_itself(self) -> None:
        class Cast(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x: Any) -> Any:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    y = self.layer(x)
                return y, self.layer(x)

        assert_same_output(Cast(), torch.rand(2, 4))

    def test_of_a_submodule_can_be_called_alone(self) -> None:
        module: Any = ResNet()
        remote = gradwire.from_torch(module, images(2)[0])
        x = torch.rand(2, 8, 4, 4)
        expected = module.blocks[1].shortcut(x)
        assert comparable(remote.blocks[1].shortcut(x)) == comparable(expected)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, padding="same"), (torch.rand(2, 3, 7),)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2), (torch.rand(2, 3, 4, 4),)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (torch.rand(3, 4, 5),)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), (torch.rand(2, 3, 4, 4),)),
    "max pool": (lambda: nn.MaxPool2d(2, return_indices=True), (torch.rand(2, 3, 4, 4),)),
    "upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (torch.rand(2, 3, 4, 4),)),
    "attention": (
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        (torch.rand(2, 3, 8),) * 3,
    ),
    "gru": (lambda: nn.GRU(4, 5, bidirectional=True), (torch.rand(3, 2, 4),)),
    "rnn": (lambda: nn.RNN(4, 5, nonlinearity="relu"), (torch.rand(3, 2, 4),)),
    "lstm with projection": (lambda: nn.LSTM(4, 6, proj_size=3), (torch.rand(3, 2, 4),)),
    "unbatched lstm": (lambda: nn.LSTM(4, 6), (torch.rand(3, 4),)),
    "lstm cell": (lambda: nn.LSTMCell(4, 5), (torch.rand(2, 4),)),
    "bag": (lambda: nn.EmbeddingBag(9, 4), (torch.tensor([[1, 2], [3, 8]]),)),
    "prelu": (nn.PReLU, (torch.randn(3, 4),)),
    "transformer": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        (torch.rand(2, 3, 8), torch.rand(2, 4, 8)),
    ),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
        (torch.rand(2, 3),),
    ),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)),
        (torch.rand(2, 3),),
    ),
    "fold": (lambda: nn.Sequential(nn.Unfold(2), nn.Fold(4, 2)), (torch.rand(1, 3, 4, 4),)),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("make", "inputs"), LAYERS.values(), ids=LAYERS)
def test_a_layer_returns_what_it_returns_locally(
    make: Callable[[], nn.Module], inputs: tuple[Any, ...]
) -> None:
    torch.manual_seed(0)
    assert_same_output(make(), *inputs)


def test_a_spatial_transformer_samples_as_locally() -> None:
    class Sample(nn.Module):
        def forward(self, x: Any, theta: Any) -> Any:
            grid = F.affine_grid(theta, x.shape, align_corners=False)
            return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    assert_same_output(Sample(), torch.rand(2, 1, 5, 5), torch.rand(2, 2, 3))


class TestWeights:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_of_any_type_are_kept_exactly(self, dtype: torch.dtype) -> None:
        module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).to(dtype)
        assert_same_output(module, torch.rand(3, 4, dtype=dtype))
        remote = gradwire.from_torch(module, torch.rand(3, 4, dtype=dtype))
        assert_same_state(gradwire.to_torch(remote, into=copy.deepcopy(module)), module)

    def test_that_are_not_contiguous_keep_their_layout(self) -> None:
        module: Any = nn.Conv2d(3, 4, 3)
        module = module.to(memory_format=torch.channels_last)
        module.bias = nn.Parameter(torch.rand(4, 2)[:, 1])
        linear = nn.Linear(3, 5)
        linear.weight = nn.Parameter(torch.rand(3, 5).t())
        remote = gradwire.from_torch(module, torch.rand(2, 3, 5, 5))
        assert remote.weight.stride() == module.weight.stride()
        assert comparable(remote.weight) == comparable(module.weight)
        assert comparable(remote.bias) == comparable(module.bias)
        assert gradwire.from_torch(linear, torch.rand(2, 3)).weight.stride() == (1, 5)

    def test_that_are_large_come_back_as_they_were(self) -> None:
        module = nn.Linear(600, 500)
        remote = gradwire.from_torch(module, torch.rand(2, 600))
        fresh = gradwire.to_torch(remote, into=nn.Linear(600, 500))
        assert_same_state(fresh, module)

    def test_can_be_converted_on_the_server(self) -> None:
        module = LanguageModel()
        remote = gradwire.from_torch(module, tokens(2, 3)).double()
        local = copy.deepcopy(module).double()
        for package, model in ((torch, local), (gradwire, remote)):
            package.manual_seed(4)
            model.loss = next_token(package, model, tokens(2, 3)).item()
        assert remote.loss == local.loss
        remote.eval(), local.eval()
        assert comparable(remote(tokens(2, 4))) == comparable(local(tokens(2, 4)))
        assert gradwire.to_torch(remote).output.weight.dtype == torch.float64
        assert_same_state(module, local)

    def test_can_be_loaded_copied_and_tied_anew(self) -> None:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
        remote = gradwire.from_torch(module, torch.rand(2, 3))
        x = torch.rand(2, 3)
        remote(x)
        copied = copy.deepcopy(remote)
        other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        remote.load_state_dict(other.state_dict())
        assert comparable(remote(x)) == comparable(other(x))
        assert comparable(copied(x)) == comparable(module(x))
        remote[0].weight = remote[1].weight  # type: ignore[index]
        other[0].weight = other[1].weight
        assert comparable(remote(x)) == comparable(other(x))
        assert len(list(remote.parameters())) == 3

    def test_come_back_as_tensors_of_torch(self) -> None:
        module = nn.BatchNorm1d(3)
        remote = gradwire.from_torch(module, torch.rand(2, 3))
        state = gradwire.to_torch(remote.state_dict())
        assert list(state) == list(module.state_dict())
        assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
        assert torch.equal(gradwire.to_torch(gradwire.ones(2)), torch.ones(2))

    def test_of_a_module_written_with_gradwire_go_into_one_of_torch(self) -> None:
        remote = gradwire.nn.Sequential(gradwire.nn.Linear(2, 3), gradwire.nn.BatchNorm1d(3))
        local = gradwire.to_torch(remote, into=nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        assert comparable(local(torch.ones(2, 2))) == comparable(remote(gradwire.ones(2, 2)))

    def test_are_not_copied_into_a_module_that_differs(self) -> None:
        remote = gradwire.from_torch(nn.Linear(2, 3), torch.rand(1, 2))
        other = nn.Linear(2, 4, bias=False)
        with pytest.raises(ValueError, match=r"bias is missing.*\(3, 2\) here and \(4, 2\) there"):
            gradwire.to_torch(remote, into=other)
        with pytest.raises(ValueError, match="not made by from_torch; say which"):
            gradwire.to_torch(gradwire.nn.Linear(2, 3))

    def test_beyond_the_limit_are_refused(self, tmp_path: Any) -> None:
        with (
            ServerProcess(tmp_path, max_session_bytes=100_000) as server,
            gradwire.connect(server.address),
            pytest.raises(LimitError, match="max_session_bytes"),
        ):
            gradwire.from_torch(nn.Linear(200, 200), torch.rand(1, 200))


class TestTheModule:
    def test_prints_and_reads_as_the_original(self) -> None:
        module: Any = ResNet()
        remote = gradwire.from_torch(module, images(2)[0])
        assert repr(remote) == repr(module)
        assert [n for n, _ in remote.named_parameters()] == [
            n for n, _ in module.named_parameters()
        ]
        assert [n for n, _ in remote.named_modules()] == [n for n, _ in module.named_modules()]
        assert remote.blocks[0].norm1.eps == module.blocks[0].norm1.eps
        assert remote.stem.kernel_size == (3, 3)

    def test_leaves_the_original_as_it_is(self) -> None:
        module: Any = ResNet().eval()
        module.stem.train()
        before = copy.deepcopy(module.state_dict())
        remote = gradwire.from_torch(module, images(2)[0])
        remote.train()
        remote(images(2)[0])
        assert [part.training for part in module.modules()].count(True) == 1
        assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())

    def test_keeps_the_sizes_that_it_is_told_to_keep(self) -> None:
        batch = torch.export.Dim("batch", min=2, max=8)
        remote = gradwire.from_torch(
            nn.Linear(3, 2), torch.rand(4, 3), dynamic_shapes={"input": {0: batch}}
        )
        assert remote(torch.rand(8, 3)).shape == (8, 2)
        with pytest.raises(ValueError, match="dynamic_shapes of from_torch allows no others"):
            remote(torch.rand(9, 3))
        fixed = gradwire.from_torch(nn.Linear(3, 2), torch.rand(4, 3), dynamic_shapes=False)
        with pytest.raises(ValueError, match="dynamic_shapes of from_torch allows no others"):
            fixed(torch.rand(5, 3))

    def test_warns_when_it_is_captured_over_and_over(self) -> None:
        class Scaled(nn.Module):
            def forward(self, x: Any, by: float) -> Any:
                return x * by

        remote = gradwire.from_torch(Scaled(), (torch.ones(1), 0.5))
        for number in range(13):
            assert remote(torch.ones(1), float(number)).item() == number
        with pytest.warns(UserWarning, match="pass them as tensors"):
            remote(torch.ones(1), 13.5)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


class TestWhatCannotBeHandedOver:
    def test_is_anything_without_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(ImportError, match=r"from_torch needs torch in this program.*install"):
            gradwire.from_torch(None)
        with pytest.raises(ImportError, match="to_torch needs torch in this program"):
            gradwire.to_torch(None)

    def test_is_a_branch_on_contents(self) -> None:
        class Branch(nn.Module):
            def forward(self, x: Any) -> Any:
                if x.sum() > 0:
                    return x
                return -x

        with pytest.raises(CaptureError) as raised:
            gradwire.from_torch(Branch(), torch.rand(2))
        text = str(raised.value)
        assert "Branch.forward can't be captured in training mode" in text
        assert "if x.sum() > 0:" in text
        assert "data-dependent" in text
        assert "torch.where" in text
        assert len(text) < 800

    def test_is_a_backward_of_ones_own(self) -> None:
        class Rounds(nn.Module):
            def forward(self, x: Any) -> Any:
                return Straight.apply(x)  # type: ignore[no-untyped-call]

        with pytest.raises(CaptureError, match=r"torch.autograd.Function Straight, whose own back"):
            gradwire.from_torch(Rounds(), torch.rand(2))

    def test_is_an_operator_that_is_not_allowed(self) -> None:
        class Sparse(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Identity()
                self.inner.forward = lambda x: x.to_sparse().to_dense()  # type: ignore[assignment,method-assign]

            def forward(self, x: Any) -> Any:
                return self.inner(x)

        with pytest.raises(
            CaptureError, match=r"Sparse uses aten.to_sparse.default.*in inner"
        ) as e:
            gradwire.from_torch(Sparse(), torch.rand(2))
        assert "test_from_torch.py" in str(e.value)

    def test_is_a_module_without_shapes(self) -> None:
        with pytest.raises(CaptureError, match="weight has no shape yet; run the lazy module once"):
            gradwire.from_torch(nn.LazyLinear(3), torch.rand(2, 2))

    def test_is_no_module(self) -> None:
        with pytest.raises(TypeError, match=r"takes a torch.nn.Module, not a function"):
            gradwire.from_torch(lambda x: x, torch.rand(2))
        with pytest.raises(TypeError, match="call it with an instance"):
            gradwire.from_torch(nn.ReLU, torch.rand(2))

    def test_is_an_input_of_another_class(self) -> None:
        with pytest.raises(TypeError, match=r"the input args\[0\]\['a'\] is a object"):
            gradwire.from_torch(nn.Identity(), ({"a": object()},))

    def test_is_run_with_inputs_that_do_not_fit(self) -> None:
        remote = gradwire.from_torch(nn.Linear(3, 2), torch.rand(2, 3))
        with pytest.raises(CaptureError, match=r"torch says: .*"):
            remote(torch.rand(2, 4))
        assert remote(torch.rand(2, 3)).shape == (2, 2)

    def test_is_changed_afterwards(self) -> None:
        remote = gradwire.from_torch(ResNet(), images(2)[0])
        with pytest.raises(TypeError, match=r"head can't be exchanged: .*call from_torch again"):
            remote.head = gradwire.nn.Linear(16, 3)
        with pytest.raises(AttributeError, match="runs in torch; bring the values back first"):
            remote.xpu()
