"""A selection of torch's own test tables, through a real server."""

import warnings
from collections.abc import Iterator

import pytest
import torch

import gradwire
from gradwire.session import Session
from tests.conformance import modules, operations, optimizers
from tests.conformance.outcomes import Outcome
from tests.conformance.report import REPORT_PATH, reason
from tests.processes import ServerProcess

OPERATIONS = """
    abs add mul pow div_floor_rounding sub __radd__ __rsub__ __rpow__ matmul addmm einsum tensordot
    sum mean var_mean std logsumexp cumsum cumprod aminmax max_reduction_with_dim
    min_reduction_no_dim median sort topk argsort unique
    index_select index_put index_add gather scatter scatter_reduce_amax masked_fill masked_select
    where take_along_dim __getitem__ nonzero
    view reshape transpose permute expand squeeze_multiple unfold cat stack split
    split_list_args chunk meshgrid_variadic_tensors broadcast_tensors atleast_2d block_diag
    linalg.svd linalg.solve linalg.qr linalg.eigh linalg.multi_dot cholesky lu_unpack
    fft.fft fft.rfft2 fft.ihfftn stft special.erfcx special.xlog1py polygamma_polygamma_n_1
    nn.functional.conv2d nn.functional.batch_norm nn.functional.layer_norm softmax
    nn.functional.cross_entropy nn.functional.ctc_loss nn.functional.embedding_bag
    nn.functional.max_pool2d nn.functional.interpolate_bilinear nn.functional.grid_sample
    nn.functional.scaled_dot_product_attention nn.functional.dropout nn.functional.gelu
    nn.functional.multi_head_attention_forward
    bernoulli normal randint_like multinomial uniform zeros_like arange linspace full new_full
    empty_like complex view_as_real conj sgn to_sparse sparse.mm_reduce sparse.sampled_addmm
    masked.softmax masked.var signal.windows.kaiser to item bfloat16 T clamp zero_ fill
    frexp histogramdd searchsorted tril_indices cov
""".split()
"""Entries of op_db of each kind: operators, reductions, indices, views, lists of tensors, named
tuples, linear algebra, transforms, layers, random numbers, factories, complex and sparse tensors,
conversions. A space in an entry's name is an underscore here."""


@pytest.fixture(scope="module", autouse=True)
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session on a server whose sums add up in the order in which this process adds."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with (
        ServerProcess(tmp_path_factory.mktemp("server"), threads=1) as server,
        gradwire.connect(server.address) as session,
    ):
        yield session
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """The tables provoke warnings of torch on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_what_torch_does(name: str) -> None:
    entries = {key.replace(" ", "_"): (key, info) for key, info in operations.entries().items()}
    assert_passes(operations.run(*entries[name], num_first=4, num_other=1))


@pytest.mark.parametrize("name", modules.entries())
def test_a_module_does_what_torch_does(name: str) -> None:
    assert_passes(modules.run(name, modules.entries()[name], num_first=2, num_other=0))


@pytest.mark.parametrize("name", optimizers.entries())
def test_an_optimizer_does_what_torch_does(name: str) -> None:
    assert_passes(optimizers.run(name, optimizers.entries()[name], num_options=2))


def test_the_report_lists_each_entry_of_each_table() -> None:
    text = REPORT_PATH.read_text(encoding="utf-8")
    for table in (operations.entries(), modules.entries(), optimizers.entries()):
        assert not [name for name in table if f"| `{name}` |" not in text]


def test_what_is_not_supported_has_a_reason() -> None:
    assert "bounds" in reason("torch.segment_reduce")
    assert "private" in reason("torch.ops.aten._safe_softmax.default")
    with pytest.raises(LookupError, match=r"torch\.relu"):
        reason("torch.relu")


def assert_passes(outcome: Outcome) -> None:
    """Asserts that all calls agreed, to the last bit."""
    assert not outcome.failures
    assert not outcome.not_allowed
    assert outcome.num_calls == outcome.num_exact > 0
