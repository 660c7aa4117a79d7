"""What operations change, by name."""

from gradwire.v1 import catalog

STEPS = frozenset({"torch.optim.Optimizer.step", "gradwire.begin_step"})
"""The operations that take a training step."""

TENSOR_OPERATIONS = frozenset(
    (
        *(catalog.FUNCTIONS.keys() | catalog.METHODS.keys() | catalog.PROPERTIES.keys()),
        *(catalog.ATEN.keys() | catalog.ARITHMETIC.keys()),
        *("gradwire.call", "gradwire.getitem", "gradwire.repr", "gradwire.describe"),
    )
) - {
    *("torch.autograd.backward", "torch.autograd.grad", "torch.Tensor.backward"),
    *("torch.manual_seed", "torch.seed", "torch.set_rng_state", "torch.Tensor.requires_grad_"),
}
"""The operations that change at most what is in tensors."""

STEP_OPERATIONS = TENSOR_OPERATIONS | {
    *("gradwire.enter", "gradwire.exit", "gradwire.getattr", "torch.autocast"),
    *("torch.no_grad", "torch.enable_grad", "torch.set_grad_enabled"),
    *("torch.Tensor.backward", "torch.nn.Module.zero_grad"),
    *("torch.optim.Optimizer.step", "torch.optim.Optimizer.zero_grad"),
}
"""What the steps of ordinary loops consist of: these change tensors and gradients at most."""

OPTION_OPERATIONS = STEP_OPERATIONS | {
    *("gradwire.options", "gradwire.set_option"),
    "torch.optim.lr_scheduler.LRScheduler.step",
    "torch.optim.lr_scheduler.LRScheduler.get_last_lr",
}
"""These change tensors and gradients, and options of optimizers, at most."""
