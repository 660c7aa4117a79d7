"""The ATen overloads of the catalog: what `torch.export` makes of a module's `forward`.

An overload such as `aten.linear.default` is what a public function of torch calls, so the review
of the public names in `catalog_review.py` holds for it too: it is taken if a public name that is
bound to it is in the catalog. Only what has no such name is reviewed here.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import torch

from catalog_returns import kind_of_schema

_NAMESPACES = ("linalg", "fft", "special")

EXTRA_BASES = {
    "behind a function of torch.nn.functional that only checks or chooses before it calls this": """
        _euclidean_dist _safe_softmax _unique2 _upsample_bicubic2d_aa _upsample_bilinear2d_aa
        _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm
        adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d
        binary_cross_entropy col2im cross_entropy_loss elu gelu_ glu hardsigmoid hardsigmoid_
        hardswish hardswish_ hardtanh huber_loss im2col l1_loss leaky_relu log_sigmoid
        max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d mish mish_
        mse_loss multi_margin_loss multilabel_margin_loss nll_loss nll_loss2d nll_loss_nd pad
        pad_sequence relu6 relu6_ silu silu_ smooth_l1_loss soft_margin_loss
        unique_dim upsample_bicubic2d upsample_bilinear2d upsample_linear1d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    """,
    "behind Python's own syntax or a property of a tensor": """
        index matrix_H numpy_T slice sym_numel sym_size sym_storage_offset sym_stride
    """,
    "a copy or a view that tracing writes down": """
        _conj _neg_view _to_copy _unsafe_view alias lift_fresh lift_fresh_copy
    """,
    "raises if a condition does not hold, and does nothing else": """
        _assert_async _assert_scalar
    """,
}
"""Operators without a public name of their own that are taken, by reason."""

REFUSED_BASES = {
    "sparse tensors: no graph of torch.export makes them": """
        ccol_indices coalesce col_indices crow_indices hspmm indices is_coalesced row_indices smm
        sparse_bsc_tensor sparse_bsr_tensor sparse_compressed_tensor sparse_coo_tensor
        sparse_csc_tensor sparse_csr_tensor sparse_dim sparse_mask sspaddmm to_sparse to_sparse_bsc
        to_sparse_bsr to_sparse_csc to_sparse_csr values
    """,
    "goes round autograd's bookkeeping, or is a question about it": """
        data is_inference is_leaf retain_grad retains_grad
    """,
}
"""Operators that are left out although their public name is taken, by reason."""

_REFUSED = frozenset(" ".join(REFUSED_BASES.values()).split())
_EXTRA = frozenset(" ".join(EXTRA_BASES.values()).split())
_NAMED_DIMENSIONS = re.compile(r"[Dd]imname|names")


def overloads(public: AbstractSet[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """Yields each overload that is taken.

    Args:
        public: The public names of functions, methods and properties in the catalog.

    Yields:
        Its name, the public name that calls it if there is one of the same name, and how it
        returns.
    """
    for operator in sorted(torch._C._dispatch_get_all_op_names()):
        namespace, _, full = operator.partition("::")
        base, _, overload = full.partition(".")
        if namespace != "aten" or _NAMED_DIMENSIONS.search(overload):
            continue
        name = _public_name(base, public)
        if base not in _REFUSED and (name is not None or base in _EXTRA):
            overload = overload or "default"
            schema = resolve(f"aten.{base}.{overload}")._schema
            yield f"aten.{base}.{overload}", name, kind_of_schema(schema)


def resolve(name: str) -> Any:
    """Returns the overload of a name such as `aten.linear.default`."""
    _, base, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, base), overload)


def makes_tensors_of_nothing(name: str) -> bool:
    """Returns whether an overload returns a tensor and takes none."""
    schema = resolve(name)._schema
    return any("Tensor" in str(result.type) for result in schema.returns) and not any(
        "Tensor" in str(argument.type) for argument in schema.arguments
    )


def _public_name(base: str, public: AbstractSet[str]) -> str | None:
    candidates = [f"torch.{base}", f"torch.Tensor.{base}"]
    prefix, _, rest = base.partition("_")
    if prefix in _NAMESPACES:
        candidates.append(f"torch.{prefix}.{rest}")
    functional = getattr(torch.nn.functional, base, None)
    if isinstance(functional, types.BuiltinFunctionType) or base in _EXTRA:
        candidates.append(f"torch.nn.functional.{base}")
    return next((name for name in candidates if name in public), None)
