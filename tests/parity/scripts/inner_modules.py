"""Hooks of modules inside modules of torch, which the server calls as one."""

from tests.parity.programs import attempt


def _encoder(torch, **options):
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, **options)


def forward_hooks_see_and_change_what_passes_inside(torch):
    encoder = _encoder(torch)
    seen = []
    first, second = encoder.layers
    first.register_forward_hook(lambda m, args, out: seen.append((type(m).__name__, args[0], out)))
    first.linear1.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    second.register_forward_hook(lambda m, args, out: out + 1)
    second.self_attn.register_forward_hook(
        lambda m, args, kwargs, out: print(sorted(kwargs), out[1]), with_kwargs=True
    )
    x = torch.randn(2, 3, 8)
    out = encoder(x)
    out.sum().backward()
    print(len(seen), seen[0][0], first.linear1.in_features)
    return seen, out, [p.grad for p in encoder.parameters()]


def a_removed_hook_is_called_no_more(torch):
    encoder = _encoder(torch)
    handle = encoder.layers[0].linear2.register_forward_hook(lambda m, args, out: print('called'))
    x = torch.randn(2, 3, 8)
    encoder(x)
    handle.remove()
    return encoder(x)


def hooks_of_a_layer_called_alone_run_once(torch):
    encoder = _encoder(torch)
    layer = encoder.layers[1]
    layer.register_forward_hook(lambda m, args, out: print('after', out.shape))
    layer.norm1.register_forward_hook(lambda m, args, out: print('norm', out.shape))
    x = torch.randn(2, 3, 8)
    return layer(x), encoder(x)


def backward_hooks_inside_see_and_change_gradients(torch):
    encoder = _encoder(torch)
    linear = encoder.layers[0].linear1
    linear.register_full_backward_pre_hook(lambda m, grads: print('before', grads[0].shape))
    linear.register_full_backward_hook(lambda m, ins, outs: (ins[0] * 2,))
    x = torch.randn(2, 3, 8, requires_grad=True)
    for _ in range(2):
        encoder(x).pow(2).sum().backward()
    return x.grad, linear.weight.grad


def activations_of_all_modules_are_collected_in_evaluation_mode(torch):
    nn = torch.nn
    model = nn.Sequential(nn.Linear(8, 8), _encoder(torch), nn.Linear(8, 1)).eval()
    names = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, args, out, name=name: names.append(name))
    with torch.no_grad():
        out = model(torch.randn(2, 3, 8))
    print(names)
    return out


def hooks_of_all_modules_run_inside_too(torch):
    encoder = _encoder(torch)
    module = torch.nn.modules.module if hasattr(torch.nn, 'modules') else torch.nn.hooks
    handle = module.register_module_forward_hook(lambda m, args, out: print(type(m).__name__))
    encoder(torch.randn(2, 3, 8))
    handle.remove()
    return encoder(torch.randn(2, 3, 8))


def what_a_hook_inside_raises_ends_the_call(torch):
    encoder = _encoder(torch)

    def bad(m, args, out):
        raise KeyError('mine')

    handle = encoder.layers[1].dropout.register_forward_hook(bad)
    attempt(lambda: encoder(torch.randn(2, 3, 8)))
    handle.remove()
    return encoder(torch.randn(2, 3, 8))


def hooks_go_along_with_copies(torch):
    import copy

    nn = torch.nn
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    handle = layer.linear1.register_forward_hook(lambda m, args, out: print('layer', out.shape))
    encoder = nn.TransformerEncoder(layer, 2)
    handle.remove()
    encoder.layers[1].register_forward_hook(lambda m, args, out: print('second', out.shape))
    copied = copy.deepcopy(encoder)
    x = torch.randn(2, 3, 8)
    layer(x)
    return encoder(x), copied(x)


def a_norm_that_was_given_stays_the_same_module(torch):
    norm = torch.nn.LayerNorm(8)
    encoder = _encoder(torch, norm=norm)
    norm.register_forward_hook(lambda m, args, out: print(m is norm, out.shape))
    print(encoder.norm is norm, list(encoder.state_dict())[-2:])
    with torch.no_grad():
        norm.weight.fill_(2)
    return encoder(torch.randn(2, 3, 8)), encoder.norm.weight
