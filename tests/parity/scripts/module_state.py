"""State dicts of modules."""

from tests.parity.programs import net


def names_and_shapes_must_match_or_are_told(torch):
    m = net(torch)
    sd = m.state_dict()
    sd2 = {k: v for k, v in sd.items() if k != '0.bias'}
    sd2['zzz'] = torch.ones(1)
    print(m.load_state_dict(sd2, strict=False))
    print(m.load_state_dict(sd))
    try:
        m.load_state_dict(sd2)
    except RuntimeError as e:
        print(e)
    sd3 = dict(sd)
    sd3['0.weight'] = torch.ones(1)
    try:
        m.load_state_dict(sd3)
    except RuntimeError as e:
        print(e)
    print(type(sd).__name__, sd._metadata if hasattr(sd, '_metadata') else None)
    print(sd)


def tensors_may_be_assigned_in_place_of_copied(torch):
    m = net(torch)
    sd = {k: torch.ones_like(v) for k, v in m.state_dict().items()}
    print(m.load_state_dict(sd, assign=True))
    print(m[0].weight, type(m[0].weight).__name__, m[0].weight.requires_grad)
    return (m.state_dict(), m(torch.ones(1, 3)))


def hooks_run_around_saving_and_loading(torch):
    nn = torch.nn
    m = net(torch)
    h = m._register_state_dict_hook(lambda mod, sd, prefix, meta: (sd.update({'x': torch.ones(1)}), sd)[1])
    print(list(m.state_dict()))
    h.remove()
    print(list(m.state_dict()))
    h = m.register_state_dict_post_hook(lambda mod, sd, prefix, meta: (sd.pop('0.bias', None), None)[1])
    print(list(m.state_dict()))
    h.remove()
    h = m.register_state_dict_pre_hook(lambda mod, prefix, keep: print('pre', prefix, keep))
    m.state_dict()
    h.remove()
    sd = m.state_dict()
    h = m.register_load_state_dict_pre_hook(lambda mod, sd, *a: (sd.pop('extra', None), None)[1])
    sd['extra'] = torch.ones(1)
    print(m.load_state_dict(sd))
    h.remove()
    h = m.register_load_state_dict_post_hook(lambda mod, ik: print('post', ik))
    m.load_state_dict(m.state_dict())
    h.remove()


def modules_may_keep_more_than_tensors(torch):
    nn = torch.nn
    class E(nn.Module):

        def __init__(self):
            super().__init__()
            self.k = 3
            self.l = nn.Linear(1, 1)

        def get_extra_state(self):
            return {'k': self.k}

        def set_extra_state(self, s):
            self.k = s['k']
    e = E()
    sd = e.state_dict()
    print(list(sd), sd['_extra_state'])
    f = E()
    f.k = 9
    f.load_state_dict(sd)
    print(f.k)
