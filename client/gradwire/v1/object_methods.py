"""Methods of modules, optimizers, schedulers and the like, by the class that defines them.

As in ``catalog``, the values say what a call returns. A call goes to the method of the object's own
class, so ``torch.optim.Optimizer.step`` on an Adam is Adam's.
"""

OBJECT_METHODS: dict[str, str] = {
    "torch.Generator.initial_seed": "value",
    "torch.Generator.manual_seed": "object",
    "torch.Generator.seed": "value",
    "torch.amp.GradScaler.get_scale": "value",
    "torch.amp.GradScaler.load_state_dict": "none",
    "torch.amp.GradScaler.scale": "overloaded",
    "torch.amp.GradScaler.state_dict": "object",
    "torch.amp.GradScaler.step": "value",
    "torch.amp.GradScaler.unscale_": "none",
    "torch.amp.GradScaler.update": "none",
    "torch.nn.AdaptiveLogSoftmaxWithLoss.log_prob": "tensor",
    "torch.nn.AdaptiveLogSoftmaxWithLoss.predict": "tensor",
    "torch.nn.Module.load_state_dict": "value",
    "torch.nn.Module.requires_grad_": "object",
    "torch.nn.Module.state_dict": "object",
    "torch.nn.Module.to": "object",
    "torch.nn.Module.train": "object",
    "torch.nn.Module.zero_grad": "none",
    "torch.nn.MultiheadAttention.merge_masks": "overloaded",
    "torch.nn.RNNBase.flatten_parameters": "none",
    "torch.optim.Optimizer.add_param_group": "none",
    "torch.optim.Optimizer.load_state_dict": "none",
    "torch.optim.Optimizer.state_dict": "object",
    "torch.optim.Optimizer.step": "overloaded",
    "torch.optim.Optimizer.zero_grad": "none",
    "torch.optim.lr_scheduler.LRScheduler.get_last_lr": "value",
    "torch.optim.lr_scheduler.LRScheduler.load_state_dict": "none",
    "torch.optim.lr_scheduler.LRScheduler.state_dict": "object",
    "torch.optim.lr_scheduler.LRScheduler.step": "none",
    "torch.optim.swa_utils.AveragedModel.update_parameters": "none",
}
