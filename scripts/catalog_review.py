"""The reviewed part of the catalog: what is left out of it, and why; what a script cannot derive.

`generate_catalog.py` takes every public callable of the namespaces in `FUNCTION_NAMESPACES`, every
public member of `torch.Tensor` and every public class of `torch.nn`, `torch.optim` and
`torch.optim.lr_scheduler`. A name is in the catalog unless it is refused here, with a reason. So a
new version of torch shows up as a difference of the generated file, and a person decides.
"""

from __future__ import annotations

FUNCTION_NAMESPACES = (
    "torch",
    "torch.nn.functional",
    "torch.linalg",
    "torch.fft",
    "torch.special",
    "torch.sparse",
    "torch.masked",
    "torch.signal.windows",
    "torch.nn.utils",
    "torch.nn.utils.rnn",
)
"""Modules whose public functions are all taken, less those refused."""

EXTRA_FUNCTIONS = (
    "torch.autograd.backward",
    "torch.autograd.grad",
    "torch.optim.swa_utils.update_bn",
)
"""Functions taken one by one, from modules that are otherwise left out."""


def _by_name(groups: dict[str, str], prefix: str = "") -> dict[str, str]:
    """Turns reason -> names into name -> reason; no name twice."""
    reasons: dict[str, str] = {}
    for reason, names in groups.items():
        for name in names.split():
            if prefix + name in reasons:
                raise ValueError(f"{prefix + name} is listed twice")
            reasons[prefix + name] = reason
    return reasons


_FILES = "reads or writes files, or memory that the caller names"
_CODE = "runs, compiles or parses code, or takes a Python callable"
_GLOBAL = "changes or shows state of the whole process"
_CLIENT = "a question about Python objects or modes, which the client answers itself"
_POINTER = "exposes raw memory, storage, NumPy, DLPack or sharing between processes"
_QUANTIZED = "quantisation; quantised dtypes do not travel on the wire"
_BACKEND = (
    "kernel of one backend behind a public operation; checks little and exists on few devices"
)
_SYMBOLIC = "symbolic shapes of the compiler"
_REMOVED = "removed from torch: it only raises"
_HELPER = "a helper of torch's own that its namespace happens to show"
_DISTRIBUTED = "distributed or multi-device"
_REWRITES = "takes a module and rewrites its class or attributes"
_UNCHECKED = "its arguments index memory without bounds checks"
_UNINITIALIZED = "shows memory that other sessions may have left; its size is the caller's choice"
_ABSENT = "does not work for the layouts it is meant for"
_NESTED = "nested tensors; their shapes do not travel on the wire"
_GRAPH = "a node of the autograd graph or its bookkeeping; the tensor's own repr shows it"
_ENUM = "takes enumerations or objects that do not travel on the wire"
_OTHER_DEVICE = "device that workers do not have"
_DUNDER = "part of Python's object protocol, not an operation"

_REFUSED_FUNCTIONS = {
    _FILES: """
        torch.from_file torch.frombuffer torch.get_file_path torch.load torch.save
    """,
    _CODE: """
        torch.compile torch.cond torch.fork torch.import_ir_module
        torch.import_ir_module_from_buffer torch.merge_type_from_type_comment torch.parse_ir
        torch.parse_schema torch.parse_type_comment torch.unify_type_list torch.vmap torch.wait
        torch.while_loop
    """,
    _GLOBAL: """
        torch.are_deterministic_algorithms_enabled torch.autocast_decrement_nesting
        torch.autocast_increment_nesting torch.clear_autocast_cache
        torch.get_deterministic_debug_mode torch.get_float32_matmul_precision
        torch.get_num_interop_threads torch.get_num_threads torch.init_num_threads
        torch.is_deterministic_algorithms_warn_only_enabled torch.is_warn_always_enabled
        torch.prepare_multiprocessing_environment
        torch.profiler_allow_cudagraph_cupti_lazy_reinit_cuda12 torch.set_anomaly_enabled
        torch.set_autocast_cache_enabled torch.set_autocast_cpu_dtype
        torch.set_autocast_cpu_enabled torch.set_autocast_dtype torch.set_autocast_enabled
        torch.set_autocast_gpu_dtype torch.set_autocast_ipu_dtype torch.set_autocast_ipu_enabled
        torch.set_autocast_xla_dtype torch.set_autocast_xla_enabled torch.set_default_device
        torch.set_default_dtype torch.set_default_tensor_type torch.set_deterministic_debug_mode
        torch.set_float32_matmul_precision torch.set_flush_denormal torch.set_num_interop_threads
        torch.set_num_threads torch.set_printoptions torch.set_warn_always
        torch.use_deterministic_algorithms
    """,
    _CLIENT: """
        torch.compiled_with_cxx11_abi torch.get_autocast_cpu_dtype torch.get_autocast_dtype
        torch.get_autocast_gpu_dtype torch.get_autocast_ipu_dtype torch.get_autocast_xla_dtype
        torch.get_default_device torch.get_default_dtype torch.is_anomaly_check_nan_enabled
        torch.is_anomaly_enabled torch.is_autocast_cache_enabled torch.is_autocast_cpu_enabled
        torch.is_autocast_enabled torch.is_autocast_ipu_enabled torch.is_autocast_xla_enabled
        torch.is_grad_enabled torch.is_inference_mode_enabled torch.is_storage torch.is_tensor
        torch.is_vulkan_available torch.masked.is_masked_tensor torch.typename
    """,
    _POINTER: """
        torch.from_dlpack torch.from_numpy torch.to_dlpack
    """,
    _QUANTIZED: """
        torch.choose_qparams_optimized torch.dequantize torch.empty_quantized
        torch.fbgemm_linear_fp16_weight torch.fbgemm_linear_fp16_weight_fp32_activation
        torch.fbgemm_linear_int8_weight torch.fbgemm_linear_int8_weight_fp32_activation
        torch.fbgemm_linear_quantize_weight torch.fbgemm_pack_gemm_matrix_fp16
        torch.fbgemm_pack_quantized_matrix torch.fused_moving_avg_obs_fake_quant torch.int_repr
        torch.q_per_channel_axis torch.q_per_channel_scales torch.q_per_channel_zero_points
        torch.q_scale torch.q_zero_point torch.quantize_per_channel torch.quantize_per_tensor
        torch.quantize_per_tensor_dynamic torch.quantized_batch_norm torch.quantized_gru
        torch.quantized_gru_cell torch.quantized_lstm torch.quantized_lstm_cell
        torch.quantized_max_pool1d torch.quantized_max_pool2d torch.quantized_max_pool3d
        torch.quantized_rnn_relu_cell torch.quantized_rnn_tanh_cell
    """,
    _BACKEND: """
        torch.batch_norm_backward_elemt torch.batch_norm_backward_reduce torch.batch_norm_elemt
        torch.batch_norm_gather_stats torch.batch_norm_gather_stats_with_counts
        torch.batch_norm_stats torch.batch_norm_update_stats torch.cudnn_affine_grid_generator
        torch.cudnn_batch_norm torch.cudnn_convolution torch.cudnn_convolution_add_relu
        torch.cudnn_convolution_relu torch.cudnn_convolution_transpose torch.cudnn_grid_sampler
        torch.cudnn_is_acceptable torch.miopen_batch_norm torch.miopen_convolution
        torch.miopen_convolution_add_relu torch.miopen_convolution_relu
        torch.miopen_convolution_transpose torch.miopen_ctc_loss
        torch.miopen_depthwise_convolution torch.miopen_rnn torch.mkldnn_adaptive_avg_pool2d
        torch.mkldnn_convolution torch.mkldnn_linear_backward_weights torch.mkldnn_max_pool2d
        torch.mkldnn_max_pool3d torch.mkldnn_rnn_layer
    """,
    _SYMBOLIC: """
        torch.sym_constrain_range torch.sym_constrain_range_for_size torch.sym_fresh_size
    """,
    _REMOVED: """
        torch.eig torch.lstsq torch.matrix_rank torch.solve torch.symeig
    """,
    _HELPER: """
        torch.classproperty torch.get_device_module torch.nn.functional.assert_int_or_pair
        torch.nn.functional.boolean_dispatch torch.nn.functional.handle_torch_function
        torch.nn.functional.has_torch_function torch.nn.functional.has_torch_function_unary
        torch.nn.functional.has_torch_function_variadic torch.nn.utils.rnn.bind
        torch.nn.utils.rnn.NamedTuple torch.nn.utils.rnn.copy_method_params
        torch.nn.utils.rnn.invert_permutation torch.sparse.as_sparse_gradcheck
        torch.thread_safe_generator
    """,
    _DISTRIBUTED: """
        torch.is_distributed
    """,
    _REWRITES: """
        torch.nn.utils.convert_conv2d_weight_memory_format
        torch.nn.utils.convert_conv3d_weight_memory_format torch.nn.utils.fuse_conv_bn_eval
        torch.nn.utils.fuse_conv_bn_weights torch.nn.utils.fuse_linear_bn_eval
        torch.nn.utils.fuse_linear_bn_weights torch.nn.utils.remove_spectral_norm
        torch.nn.utils.remove_weight_norm torch.nn.utils.skip_init torch.nn.utils.spectral_norm
        torch.nn.utils.weight_norm
    """,
    _UNCHECKED: """
        torch.nn.functional.grouped_mm torch.segment_reduce torch.slice_inverse
    """,
    _UNINITIALIZED: "torch.resize_as_ torch.resize_as_sparse_",
    _ABSENT: """
        torch.ccol_indices_copy torch.col_indices_copy torch.crow_indices_copy
        torch.indices_copy torch.row_indices_copy torch.values_copy
    """,
    _ENUM: """
        torch.masked.as_masked_tensor torch.masked.masked_tensor
        torch.nn.functional.scaled_grouped_mm torch.nn.functional.scaled_mm
        torch.sparse.to_sparse_semi_structured
    """,
}

_REFUSED_TENSOR_MEMBERS = {
    _CODE: "apply_ map_ map2_ register_hook register_post_accumulate_grad_hook reinforce",
    _POINTER: """
        as_subclass const_data_ptr data_ptr is_pinned is_set_to is_shared module_load new numpy
        pin_memory record_stream set_ share_memory_ storage storage_type untyped_storage
        __array__ __array_priority__ __array_wrap__ __cuda_array_interface__ __dlpack__
        __dlpack_c_exchange_api__ __dlpack_device__
    """,
    _QUANTIZED: """
        dequantize int_repr q_per_channel_axis q_per_channel_scales q_per_channel_zero_points
        q_scale q_zero_point qscheme
    """,
    _BACKEND: "is_mkldnn to_mkldnn",
    _REMOVED: "lstsq resize resize_as solve symeig eig __div__ __idiv__ __rdiv__ volatile",
    _UNCHECKED: "slice_inverse sparse_resize_ sparse_resize_and_clear_",
    _UNINITIALIZED: "resize_ resize_as_ resize_as_sparse_",
    _NESTED: "to_padded_tensor",
    _GRAPH: "grad_fn name output_nr",
    _ENUM: "index",
    _DISTRIBUTED: "is_distributed",
    _OTHER_DEVICE: "ipu is_ipu is_maia is_mps is_mtia is_vulkan is_xla is_xpu mtia xpu",
    _DUNDER: """
        __annotations__ __class__ __deepcopy__ __delattr__ __delitem__ __dict__ __dir__ __doc__
        __format__ __getattribute__ __getstate__ __hash__ __init__ __init_subclass__ __iter__
        __long__ __module__ __new__ __nonzero__ __reduce__ __reduce_ex__ __setattr__ __setstate__
        __sizeof__ __str__ __subclasshook__ __torch_dispatch__ __torch_function__ __weakref__
    """,
}

_REFUSED_CLASSES = {
    "base class; it has no forward of its own": """
        torch.nn.Container torch.nn.RNNBase torch.nn.RNNCellBase
    """,
    _DISTRIBUTED: "torch.nn.DataParallel torch.nn.SyncBatchNorm",
    "abstract base class": "torch.optim.Optimizer torch.optim.lr_scheduler.LRScheduler",
}


REFUSED: dict[str, str] = {
    **_by_name(_REFUSED_FUNCTIONS),
    **_by_name(_REFUSED_TENSOR_MEMBERS, "torch.Tensor."),
    **_by_name(_REFUSED_CLASSES),
}
"""Public names of torch that the catalog must not have, and the reason of each."""

SETTABLE_PROPERTIES = ("data", "grad", "imag", "real", "requires_grad")
"""Properties of `torch.Tensor` that a program may assign."""

CONTEXTS: dict[str, str] = {
    "torch.amp.autocast": "",
    "torch.autocast": "",
    "torch.autograd.detect_anomaly": "",
    "torch.autograd.set_detect_anomaly": "",
    "torch.cpu.amp.autocast": "",
    "torch.cuda.amp.autocast": "",
    "torch.enable_grad": "",
    "torch.inference_mode": "",
    "torch.no_grad": "",
    "torch.random.fork_rng": "",
    "torch.set_grad_enabled": "",
}
"""Context managers that a program may enter. Each restores what it changes when it is left."""

CLASSES: dict[str, str] = {
    "torch.Generator": "object",
    "torch.GradScaler": "object",
    "torch.amp.GradScaler": "object",
    "torch.cuda.amp.GradScaler": "object",
    "torch.nn.Buffer": "tensor",
    "torch.nn.LinearCrossEntropyOptions": "object",
    "torch.nn.Parameter": "tensor",
    "torch.nn.utils.rnn.PackedSequence": "overloaded",
    "torch.optim.swa_utils.get_ema_avg_fn": "object",
    "torch.optim.swa_utils.get_ema_multi_avg_fn": "object",
    "torch.optim.swa_utils.get_swa_avg_fn": "object",
    "torch.optim.swa_utils.get_swa_multi_avg_fn": "object",
}
"""What else can be constructed."""

ARITHMETIC: dict[str, str] = {
    **{
        f"operator.{name}": "value"
        for name in (
            *("add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pow"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_"),
        )
    },
    **{f"math.{name}": "value" for name in ("ceil", "floor", "sqrt", "trunc")},
    **{
        f"torch.sym_{name}": "value"
        for name in ("float", "int", "ite", "max", "min", "not", "sqrt", "sum")
    },
}
"""What computes with plain numbers, such as sizes; the server takes numbers only."""

OBJECT_METHODS: dict[str, str] = {
    "torch.Generator.get_state": "tensor",
    "torch.Generator.initial_seed": "value",
    "torch.Generator.manual_seed": "none",
    "torch.Generator.seed": "value",
    "torch.Generator.set_state": "none",
    "torch.amp.GradScaler.get_backoff_factor": "value",
    "torch.amp.GradScaler.get_growth_factor": "value",
    "torch.amp.GradScaler.get_growth_interval": "value",
    "torch.amp.GradScaler.get_scale": "value",
    "torch.amp.GradScaler.is_enabled": "value",
    "torch.amp.GradScaler.scale": "overloaded",
    "torch.amp.GradScaler.set_backoff_factor": "none",
    "torch.amp.GradScaler.set_growth_factor": "none",
    "torch.amp.GradScaler.set_growth_interval": "none",
    "torch.amp.GradScaler.step": "none",
    "torch.amp.GradScaler.unscale_": "none",
    "torch.amp.GradScaler.update": "none",
    "torch.nn.Module.requires_grad_": "none",
    "torch.nn.Module.to": "none",
    "torch.nn.Module.train": "none",
    "torch.nn.Module.type": "none",
    "torch.nn.Module.zero_grad": "none",
    "torch.optim.Optimizer.add_param_group": "none",
    "torch.optim.Optimizer.step": "overloaded",
    "torch.optim.Optimizer.zero_grad": "none",
    "torch.optim.lr_scheduler.LRScheduler.get_last_lr": "value",
    "torch.optim.lr_scheduler.LRScheduler.step": "none",
    "torch.optim.swa_utils.AveragedModel.update_parameters": "none",
}
"""Methods of modules, optimizers and the objects above.

Where torch returns the object itself, the row says `none`.
"""

_GUARDED = {
    "interpolation_mode and padding_mode must be 0, 1 or 2": """
        torch.grid_sampler torch.grid_sampler_2d torch.grid_sampler_3d
    """,
    "pivots must be what ldl_factor returns: rows from 1, negative ones in equal pairs": """
        torch.linalg.ldl_solve
    """,
    "weight, bias and running statistics must have one element for each channel": """
        torch.native_batch_norm
    """,
    "targets must be at least 0 and less than the number of classes": """
        torch.ctc_loss torch.nn.functional.ctc_loss torch.nn.CTCLoss
    """,
    "every weight must have the shape that the input and hidden sizes ask for": """
        torch.lstm torch.nn.LSTM
    """,
    "with rounding_mode='trunc' the least int32 or int64 divided by -1 kills the process": """
        torch.div torch.divide torch.Tensor.div torch.Tensor.div_ torch.Tensor.divide
        torch.Tensor.divide_
    """,
    "n must be greater than the least int64, or the call never ends": """
        torch.matrix_power torch.linalg.matrix_power torch.Tensor.matrix_power
    """,
    "elements must be finite: LAPACK is not asked to check, and kills the process": """
        torch.linalg.eigvals
    """,
    "there must be as many pivots as LU_data asks for": """
        torch.lu_unpack
    """,
    "index tensors must be copied, check_invariants must be true, is_coalesced not given": """
        torch.sparse_bsc_tensor torch.sparse_bsr_tensor torch.sparse_compressed_tensor
        torch.sparse_coo_tensor torch.sparse_csc_tensor torch.sparse_csr_tensor
    """,
    "the result must be copied: writing into it would move the indices out of bounds": """
        torch.Tensor.ccol_indices torch.Tensor.col_indices torch.Tensor.crow_indices
        torch.Tensor.indices torch.Tensor.row_indices
    """,
    "batch_sizes must be positive, must not increase, and must add up to the length of data": """
        torch.nn.utils.rnn.pad_packed_sequence torch.nn.utils.rnn.unpack_sequence
    """,
    "padding must be so small that sizes do not overflow": """
        torch.nn.functional.pad torch.nn.ReplicationPad1d torch.nn.ReplicationPad2d
        torch.nn.ReplicationPad3d
    """,
    "only `enabled` may be given: the device type is looked up as an attribute of torch": """
        torch.random.fork_rng
    """,
    "keys must not begin with an underscore or name an attribute of the class": """
        torch.nn.ParameterDict
    """,
}

GUARDED: dict[str, str] = _by_name(_GUARDED)
"""What torch does not check, so that wild arguments would hurt the process; the server must."""

UNINITIALIZED = (
    "torch.Tensor.new_empty",
    "torch.Tensor.new_empty_strided",
    "torch.empty",
    "torch.empty_like",
    "torch.empty_permuted",
    "torch.empty_strided",
)
"""What returns memory as it was left, perhaps by another session."""

RETURNS: dict[str, tuple[str, str]] = {
    name: (kind, reason)
    for kind, reason, names in (
        (
            "tensor",
            "torch gives no annotation; always one tensor",
            """
            torch.block_diag torch.cdist torch.chain_matmul torch.norm torch.stft torch.tensordot
            torch.nn.functional.logsigmoid torch.nn.functional.sigmoid
            torch.nn.functional.softsign torch.nn.functional.tanh torch.Tensor.__itruediv__
            torch.Tensor.__pos__ torch.Tensor.cdouble torch.Tensor.cfloat
            torch.nn.functional.tanhshrink torch.nn.functional.upsample
            torch.nn.functional.upsample_bilinear torch.nn.functional.upsample_nearest
            torch.sparse.addmm torch.sparse.log_softmax torch.sparse.mm
            torch.sparse.sampled_addmm torch.sparse.softmax torch.sparse.spdiags
            torch.sparse.spsolve torch.sparse.sum
            torch.Tensor.__eq__ torch.Tensor.__ne__
            torch.Tensor.__getitem__ torch.Tensor.__reversed__ torch.Tensor.istft
            torch.Tensor.norm torch.Tensor.stft torch.Tensor.to_sparse_coo
            torch.Tensor.unflatten
            torch.Tensor.__floordiv__ torch.Tensor.__ipow__ torch.Tensor.__pow__
            torch.Tensor.__rfloordiv__ torch.Tensor.__rlshift__ torch.Tensor.__rmatmul__
            torch.Tensor.__rmod__ torch.Tensor.__rpow__ torch.Tensor.__rrshift__
            torch.Tensor.__rsub__ torch.Tensor.__rtruediv__
            """,
        ),
        (
            "none",
            "torch gives no annotation; returns nothing",
            "torch.Tensor.__setitem__ torch.Tensor.backward torch.optim.swa_utils.update_bn",
        ),
        (
            "none",
            "torch returns its default generator, which is the session's own and has no handle",
            "torch.manual_seed",
        ),
        (
            "value",
            "torch gives no annotation; a plain value",
            """
            torch.broadcast_shapes torch.Tensor.__contains__ torch.Tensor.__len__
            torch.Tensor.__repr__ torch.Tensor.dim_order torch.Tensor.grad_dtype
            """,
        ),
        (
            "overloaded",
            "one tensor in, one out; several in, a tuple out",
            "torch.atleast_1d torch.atleast_2d torch.atleast_3d",
        ),
        (
            "overloaded",
            "flags such as return_indices, return_inverse or get_infos decide",
            """
            torch.lu torch.unique torch.unique_consecutive torch.Tensor.lu torch.Tensor.unique
            torch.Tensor.unique_consecutive torch.nn.functional.adaptive_max_pool1d
            torch.nn.functional.adaptive_max_pool2d torch.nn.functional.adaptive_max_pool3d
            torch.nn.functional.fractional_max_pool2d torch.nn.functional.fractional_max_pool3d
            torch.nn.functional.max_pool1d torch.nn.functional.max_pool2d
            torch.nn.functional.max_pool3d
            torch.nn.AdaptiveMaxPool1d torch.nn.AdaptiveMaxPool2d torch.nn.AdaptiveMaxPool3d
            torch.nn.FractionalMaxPool2d torch.nn.FractionalMaxPool3d torch.nn.MaxPool1d
            torch.nn.MaxPool2d torch.nn.MaxPool3d
            """,
        ),
        (
            "overloaded",
            "without a dtype a string, with one a tensor",
            "torch.Tensor.type",
        ),
        (
            "overloaded",
            "a tuple of tensors and states, or a packed sequence for a packed sequence",
            """
            torch.lobpcg torch.nn.GRU torch.nn.LSTM torch.nn.RNN
            torch.nn.utils.rnn.pack_padded_sequence torch.nn.utils.rnn.pack_sequence
            """,
        ),
        (
            "overloaded",
            "returns what its submodules, or its input, make of it",
            """
            torch.nn.Identity torch.nn.Module torch.nn.ModuleDict torch.nn.ModuleList
            torch.nn.ParameterDict torch.nn.ParameterList torch.nn.Sequential
            torch.optim.swa_utils.AveragedModel
            """,
        ),
        (
            "variable",
            "as many results as tensors are given",
            "torch.broadcast_tensors torch.meshgrid",
        ),
        (
            "variable",
            "one result per piece, dimension or column",
            """
            torch.split torch.split_copy torch.split_with_sizes_copy torch.unbind_copy
            torch.Tensor.split torch.histogramdd
            """,
        ),
        (
            "variable",
            "a tuple with one tensor per dimension: with as_tuple, or with a condition alone",
            "torch.nonzero torch.Tensor.nonzero torch.where torch.Tensor.where",
        ),
        (
            "variable",
            "with allow_unused an element is None where the graph does not reach",
            "torch.autograd.grad",
        ),
        (
            "variable",
            "None until a gradient has been computed",
            "torch.Tensor.grad",
        ),
    )
    for name in names.split()
}
"""How a call returns, where torch's annotations do not say or say something else."""

EXTRA_FACTORIES = ("torch.fft.fftfreq", "torch.fft.rfftfreq")
"""Factories that torch's own list names by a private path."""
