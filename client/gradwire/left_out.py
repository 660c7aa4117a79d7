"""What torch has and gradwire does not, with what to do instead."""

_FROM_TORCH = (
    "put it on a module of local torch and hand that over with gradwire.from_torch, "
    "or compute the weight in your own forward"
)
_ONE_DEVICE = (
    "a session lives on one device of one worker; open a session for each part of the work, and "
    "exchange tensors between them in your script"
)
_TRANSFORMS = (
    "it transforms Python functions amid torch's dispatcher, and what runs on the server is "
    "recorded operations; use autograd.grad(create_graph=True), autograd.functional or operations "
    "over batches"
)

LEFT_OUT: dict[str, str] = {
    "torch.distributed": _ONE_DEVICE,
    "torch.export": "hand the module over with gradwire.from_torch, which exports it",
    "torch.func": _TRANSFORMS,
    "torch.fx": "hand the module over with gradwire.from_torch, which traces it",
    "torch.hub": "load the module with local torch, and hand it over with gradwire.from_torch",
    "torch.jit": "programs are recorded as they run; gradwire.to_torch gives a module to script",
    "torch.multiprocessing": _ONE_DEVICE,
    "torch.onnx": "gradwire.to_torch gives a module of local torch, which torch.onnx exports",
    "torch.profiler": "the model is on a server; see its metrics and traces",
    "torch.vmap": _TRANSFORMS,
    "torch.autograd.forward_ad": "use autograd.functional.jvp",
    "torch.autograd.profiler": "the model is on a server; see its metrics and traces",
    "torch.nn.DataParallel": _ONE_DEVICE,
    "torch.nn.parallel": _ONE_DEVICE,
    "torch.nn.utils.fusion": _FROM_TORCH,
    "torch.nn.utils.fuse_conv_bn_eval": _FROM_TORCH,
    "torch.nn.utils.fuse_conv_bn_weights": _FROM_TORCH,
    "torch.nn.utils.fuse_linear_bn_eval": _FROM_TORCH,
    "torch.nn.utils.parametrizations": _FROM_TORCH,
    "torch.nn.utils.parametrize": _FROM_TORCH,
    "torch.nn.utils.prune": _FROM_TORCH,
    "torch.nn.utils.remove_spectral_norm": _FROM_TORCH,
    "torch.nn.utils.remove_weight_norm": _FROM_TORCH,
    "torch.nn.utils.spectral_norm": _FROM_TORCH,
    "torch.nn.utils.stateless": _TRANSFORMS,
    "torch.nn.utils.weight_norm": _FROM_TORCH,
    "torch.utils.cpp_extension": "a server runs operations of its catalog only",
    "torch.utils.tensorboard": "gradwire.loggers.TensorBoard writes what a run tells",
}
"""By full name in torch: why it is not there, or what does the same."""
