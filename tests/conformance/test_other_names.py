"""What torch's tables leave out: the other classes of torch.nn, and all of torch.nn.init."""

from collections.abc import Callable
from typing import Any

import pytest

import gradwire
from gradwire.session import Session
from gradwire.v1 import catalog
from tests.conformance.modules import entries
from tests.parity.comparing import assert_same

Make = Callable[[Any], Any]

MODULES: dict[str, tuple[Make, Make]] = {
    "AlphaDropout": (lambda nn: nn.AlphaDropout(0.3), lambda t: [t.randn(4, 5)]),
    "ChannelShuffle": (lambda nn: nn.ChannelShuffle(2), lambda t: [t.randn(2, 4, 3, 3)]),
    "CosineSimilarity": (
        lambda nn: nn.CosineSimilarity(dim=1),
        lambda t: [t.randn(3, 4), t.randn(3, 4)],
    ),
    "CrossMapLRN2d": (lambda nn: nn.CrossMapLRN2d(3), lambda t: [t.randn(2, 4, 3, 3)]),
    "Dropout": (lambda nn: nn.Dropout(0.4), lambda t: [t.randn(4, 5)]),
    "Dropout1d": (lambda nn: nn.Dropout1d(0.4), lambda t: [t.randn(4, 5, 3)]),
    "Dropout2d": (lambda nn: nn.Dropout2d(0.4), lambda t: [t.randn(4, 5, 3, 2)]),
    "Dropout3d": (lambda nn: nn.Dropout3d(0.4), lambda t: [t.randn(4, 5, 3, 2, 2)]),
    "EmbeddingBag": (
        lambda nn: nn.EmbeddingBag(10, 3, mode="max"),
        lambda t: [t.tensor([1, 4, 2, 9, 1]), t.tensor([0, 3])],
    ),
    "FeatureAlphaDropout": (
        lambda nn: nn.FeatureAlphaDropout(0.4),
        lambda t: [t.randn(4, 5, 3, 2)],
    ),
    "Flatten": (lambda nn: nn.Flatten(1, 2), lambda t: [t.randn(2, 3, 4, 5)]),
    "Fold": (lambda nn: nn.Fold((4, 5), (2, 2)), lambda t: [t.randn(1, 12, 12)]),
    "Hardsigmoid": (lambda nn: nn.Hardsigmoid(), lambda t: [t.randn(3, 4) * 4]),
    "Identity": (lambda nn: nn.Identity(3, unused=True), lambda t: [t.randn(3)]),
    "LazyBatchNorm1d": (lambda nn: nn.LazyBatchNorm1d(), lambda t: [t.randn(4, 3)]),
    "LazyBatchNorm2d": (lambda nn: nn.LazyBatchNorm2d(), lambda t: [t.randn(2, 3, 4, 4)]),
    "LazyBatchNorm3d": (lambda nn: nn.LazyBatchNorm3d(), lambda t: [t.randn(2, 3, 4, 4, 2)]),
    "LazyInstanceNorm1d": (
        lambda nn: nn.LazyInstanceNorm1d(affine=True),
        lambda t: [t.randn(2, 3, 4)],
    ),
    "LazyInstanceNorm2d": (
        lambda nn: nn.LazyInstanceNorm2d(affine=True, track_running_stats=True),
        lambda t: [t.randn(2, 3, 4, 4)],
    ),
    "LazyInstanceNorm3d": (
        lambda nn: nn.LazyInstanceNorm3d(affine=True),
        lambda t: [t.randn(2, 3, 4, 4, 2)],
    ),
    "LazyLinear": (lambda nn: nn.LazyLinear(3), lambda t: [t.randn(2, 4)]),
    "MaxUnpool1d": (
        lambda nn: nn.MaxUnpool1d(2),
        lambda t: t.nn.functional.max_pool1d(t.randn(1, 2, 6), 2, return_indices=True),
    ),
    "MaxUnpool2d": (
        lambda nn: nn.MaxUnpool2d(2),
        lambda t: t.nn.functional.max_pool2d(t.randn(1, 2, 6, 6), 2, return_indices=True),
    ),
    "MaxUnpool3d": (
        lambda nn: nn.MaxUnpool3d(2),
        lambda t: t.nn.functional.max_pool3d(t.randn(1, 2, 4, 4, 4), 2, return_indices=True),
    ),
    "PairwiseDistance": (
        lambda nn: nn.PairwiseDistance(3.0, keepdim=True),
        lambda t: [t.randn(3, 4), t.randn(3, 4)],
    ),
    "PixelShuffle": (lambda nn: nn.PixelShuffle(2), lambda t: [t.randn(1, 8, 3, 3)]),
    "PixelUnshuffle": (lambda nn: nn.PixelUnshuffle(2), lambda t: [t.randn(1, 2, 4, 6)]),
    "RReLU": (lambda nn: nn.RReLU(0.1, 0.4), lambda t: [t.randn(3, 4)]),
    "TransformerDecoder": (
        lambda nn: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.1), 2),
        lambda t: [t.randn(3, 2, 8), t.randn(4, 2, 8)],
    ),
    "TripletMarginLoss": (
        lambda nn: nn.TripletMarginLoss(margin=0.5, swap=True),
        lambda t: [t.randn(3, 4), t.randn(3, 4), t.randn(3, 4)],
    ),
    "TripletMarginWithDistanceLoss": (
        lambda nn: nn.TripletMarginWithDistanceLoss(distance_function=nn.PairwiseDistance(1.0)),
        lambda t: [t.randn(3, 4), t.randn(3, 4), t.randn(3, 4)],
    ),
    "Unflatten": (lambda nn: nn.Unflatten(1, (2, 3)), lambda t: [t.randn(2, 6)]),
    "Unfold": (lambda nn: nn.Unfold((2, 3), padding=1), lambda t: [t.randn(2, 3, 4, 5)]),
    "Upsample": (
        lambda nn: nn.Upsample(scale_factor=2, mode="bicubic"),
        lambda t: [t.randn(1, 2, 3, 3)],
    ),
    "UpsamplingBilinear2d": (
        lambda nn: nn.UpsamplingBilinear2d(scale_factor=2),
        lambda t: [t.randn(1, 2, 3, 3)],
    ),
    "UpsamplingNearest2d": (
        lambda nn: nn.UpsamplingNearest2d((5, 7)),
        lambda t: [t.randn(1, 2, 3, 3)],
    ),
}
"""Classes that module_db lacks: how to make one, and its inputs."""

ELSEWHERE = {
    *("Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"),
    *("AdaptiveLogSoftmaxWithLoss", "NLLLoss2d"),
}
"""Classes that module_db lacks and that other tests use."""


@pytest.fixture(autouse=True)
def _in_a_session(session: Session) -> None:
    """Each test runs in a session of its own."""


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_the_tables_lack_does_what_torch_does(name: str) -> None:
    make, make_inputs = MODULES[name]

    def program(torch: Any) -> Any:
        module = make(torch.nn)
        inputs = list(make_inputs(torch))
        if inputs[0].is_floating_point():
            inputs[0].requires_grad_()
        first = module(*inputs)
        first.pow(2).sum().backward()
        print(module, [name for name, _ in module.named_parameters()])
        gradients = [parameter.grad for parameter in module.parameters()]
        return first, inputs[0].grad, gradients, module.state_dict(), module.eval()(*inputs)

    assert_same(program)


def test_adaptive_softmax_returns_outputs_and_loss_and_predicts() -> None:
    def program(torch: Any) -> Any:
        module = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 10, [3, 6])
        x, y = torch.randn(5, 16), torch.tensor([0, 4, 9, 2, 6])
        result = module(x, y)
        result.loss.backward()
        print(module)
        gradients = [parameter.grad for parameter in module.parameters()]
        return result, result.output, gradients

    assert_same(program)


def test_every_class_of_torch_nn_is_compared_with_torch() -> None:
    names = {name for table in (catalog.MODULES, catalog.LOSSES) for name in table}
    names = {name.removeprefix("torch.nn.") for name in names if name.startswith("torch.nn.")}
    compared = {name.removeprefix("nn.") for name in entries()} | MODULES.keys() | ELSEWHERE
    assert not names - compared
    assert not [name for name in names if not hasattr(gradwire.nn, name)]


@pytest.mark.parametrize("name", [name for name in catalog.INITIALIZERS if name.endswith("_")])
def test_an_initialiser_draws_what_torch_draws(name: str) -> None:
    short = name.removeprefix("torch.nn.init.")
    arguments: dict[str, list[Any]] = {"constant_": [0.3], "sparse_": [0.4]}
    shape = (3, 4, 5) if short == "dirac_" else (6, 4)

    def program(torch: Any) -> Any:
        tensor = torch.empty(*shape)
        result = getattr(torch.nn.init, short)(tensor, *arguments.get(short, []))
        print(result is tensor, tensor.requires_grad)
        return tensor

    assert_same(program)
