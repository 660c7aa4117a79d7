"""Modules that scripts write, and what they may do with those of torch."""

import copy

from tests.parity.programs import net


def forward_takes_and_returns_any_structure(torch):
    nn = torch.nn
    class M(nn.Module):

        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = self.a
            self.n = 0
            self.register_buffer('s', torch.zeros(3))
            self.register_buffer('t', torch.ones(1), persistent=False)
            self.register_parameter('none', None)
            self.w = nn.Parameter(torch.randn(3))

        def forward(self, x, *, scale=1.0, extra=None):
            self.n += 1
            h = self.a(x) * scale
            for i in range(x.shape[0]):
                if h[i].sum() > 0:
                    h = h + self.w
            if extra is not None:
                h = h + extra['z']
            return {'out': h, 'pair': (self.b(h), h.mean())}
    m = M()
    x = torch.randn(2, 3)
    o = m(x, scale=2.0, extra={'z': torch.ones(3)})
    print(m, o['out'], o['pair'])
    print([n for n, _ in m.named_parameters()], [n for n, _ in m.named_buffers()], list(m.state_dict()))
    print([n for n, _ in m.named_modules()], [n for n, _ in m.named_modules(remove_duplicate=False)])
    print([n for n, _ in m.named_parameters(remove_duplicate=False)])
    (o['out'].sum() + o['pair'][1]).backward()
    print(m.w.grad, m.a.weight.grad, m.n, m.none)
    return (m.state_dict(), o)


def forward_hooks_run_in_order_until_removed(torch):
    m = net(torch)
    log = []
    h1 = m[0].register_forward_pre_hook(lambda mod, a: log.append(('pre', tuple(a[0].shape))))
    h2 = m[0].register_forward_hook(lambda mod, a, o: o * 2)
    h3 = m.register_forward_hook(lambda mod, a, kw, o: log.append(sorted(kw)), with_kwargs=True)
    h4 = m.register_forward_pre_hook(lambda mod, a, kw: (a, kw), with_kwargs=True, prepend=True)
    x = torch.randn(2, 3)
    a = m(x)
    h2.remove()
    b = m(x)
    with h1:
        m(x)
    m(x)
    print(log)
    return (a, b)


def a_forward_hook_may_run_although_forward_failed(torch):
    nn = torch.nn
    log = []
    class B(nn.Module):

        def forward(self, x):
            raise ValueError('boom')
    m = B()
    m.register_forward_hook(lambda mod, a, o: log.append(o), always_call=True)
    try:
        m(torch.ones(1))
    except ValueError as e:
        print('caught', e)
    print(log)


def weights_are_initialised_by_apply(torch):
    nn = torch.nn
    m = net(torch)
    def init(l):
        if isinstance(l, nn.Linear):
            nn.init.xavier_uniform_(l.weight)
            nn.init.zeros_(l.bias)
            l.weight.data.mul_(2)
            with torch.no_grad():
                l.bias.fill_(0.1)
    m.apply(init)
    return m.state_dict()


def members_are_found_and_set_by_path(torch):
    nn = torch.nn
    m = nn.Sequential(net(torch), nn.BatchNorm1d(2))
    print(m.get_submodule('0.2'), m.get_parameter('0.2.weight').shape, m.get_buffer('1.running_mean'))
    for f, a in ((m.get_submodule, '0.9'), (m.get_parameter, '0.2.zz'), (m.get_buffer, '1.weight'), (m.get_parameter, '1.running_mean')):
        try:
            f(a)
        except AttributeError as e:
            print(e)
    m.set_submodule('0.1', nn.Tanh())
    print(m)
    print(list(m.children())[1], [n for n, _ in m.named_children()], m.get_extra_state if False else 0)


def modules_are_converted_as_a_whole(torch):
    m = net(torch)
    m.double()
    print(m[0].weight.dtype)
    m.half()
    print(m[0].weight.dtype)
    m.bfloat16()
    m.float()
    print(m[0].weight.dtype)
    m.to(torch.float64)
    print(m[0].bias.dtype)
    m.to('cpu')
    m.type(torch.float32)
    print(m[0].bias.dtype)
    m.cpu()
    m.to(torch.zeros(1, dtype=torch.float64))
    print(m[0].bias.dtype)
    return m.state_dict()


def only_floating_point_buffers_are_converted(torch):
    m = torch.nn.BatchNorm1d(3)
    m.half()
    print(m.num_batches_tracked.dtype, m.running_mean.dtype)
    m.to(device='cpu', dtype=torch.float64)
    return m.state_dict()


def a_copy_of_a_module_has_weights_of_its_own(torch):
    m = net(torch)
    c = copy.deepcopy(m)
    with torch.no_grad():
        m[0].weight.zero_()
    return (c.state_dict(), m.state_dict())


def lazy_modules_become_what_they_stand_for(torch):
    nn = torch.nn
    m = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    print(m)
    y = m(torch.randn(2, 3))
    print(m)
    return (y, m.state_dict())


def layers_of_torch_can_be_derived_from(torch):
    nn = torch.nn
    class MyLinear(nn.Linear):

        def __init__(self, i, o):
            super().__init__(i, o)
            self.scale = nn.Parameter(torch.ones(1) * 2)

        def forward(self, x):
            return super().forward(x) * self.scale

        def extra_repr(self):
            return 'mine, ' + super().extra_repr()
    m = nn.Sequential(MyLinear(3, 2))
    y = m(torch.randn(2, 3))
    y.sum().backward()
    print(m, list(m.state_dict()))
    print(m[0].in_features, m[0].scale.grad, isinstance(m[0], nn.Linear))
    return (y, {k: p.grad for k, p in m.named_parameters()})


def containers_and_convolutions_can_be_derived_from(torch):
    nn = torch.nn
    class Block(nn.Sequential):

        def __init__(self, i, o):
            super().__init__(nn.Linear(i, o), nn.ReLU())
    class Res(nn.Conv2d):

        def forward(self, x):
            return x + self._conv_forward(x, self.weight, self.bias)
    m = nn.Sequential(Block(2, 3), Block(3, 1))
    print(m)
    r = Res(2, 2, 3, padding=1)
    print(r)
    return (m(torch.ones(1, 2)), r(torch.ones(1, 2, 4, 4)))


def functions_and_layers_mix_in_forward(torch):
    nn = torch.nn
    F = torch.nn.functional
    class N(nn.Module):

        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3)
            self.fc = nn.Linear(4 * 3 * 3, 5)
            self.drop = nn.Dropout(0.3)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = torch.flatten(x, 1)
            x = self.drop(x)
            return F.log_softmax(self.fc(x), dim=1)
    m = N()
    y = m(torch.randn(2, 1, 8, 8))
    print(m)
    loss = F.nll_loss(y, torch.tensor([1, 2]))
    loss.backward()
    print(loss)
    return (y, m.conv1.weight.grad)


def modes_and_gradients_are_switched_for_all_members(torch):
    m = net(torch)
    print(m.training, m[0].training)
    m.eval()
    print(m.training, m[0].training, m.train(True) is m)
    m.requires_grad_(False)
    print([p.requires_grad for p in m.parameters()])
    m.zero_grad()
    print(sum((p.numel() for p in m.parameters())), sum((p.numel() for p in m.parameters() if p.requires_grad)))


def members_are_attributes(torch):
    nn = torch.nn
    m = net(torch)
    print(m[0].weight.shape, m[0].bias.is_leaf, m[0].weight)
    print(m.__class__.__name__, m._get_name(), hash(m) == hash(m), [n for n in dir(m) if n in ('0', 'training', 'forward')])
    m.foo = nn.Linear(1, 1)
    del m.foo
    print(m)
    m.note = 'x'
    print(m.note)
    print(sum((1 for _ in m.modules())), type(m.parameters()).__name__, type(m.state_dict()).__name__)


def tied_weights_are_one_parameter(torch):
    nn = torch.nn
    class T(nn.Module):

        def __init__(self):
            super().__init__()
            self.emb = nn.Embedding(5, 3)
            self.out = nn.Linear(3, 5, bias=False)
            self.out.weight = self.emb.weight

        def forward(self, x):
            return self.out(self.emb(x))
    m = T()
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    for _ in range(2):
        l = torch.nn.functional.cross_entropy(m(torch.tensor([1, 2])), torch.tensor([2, 3]))
        o.zero_grad()
        l.backward()
        o.step()
    print([n for n, _ in m.named_parameters()], len(list(m.parameters())), list(m.state_dict()))
    return (m.state_dict(), l)


def recurrent_layers_return_their_states(torch):
    nn = torch.nn
    l = nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True, dropout=0.1)
    x = torch.randn(2, 5, 3)
    o, (h, c) = l(x)
    print(l, o.shape, h.shape)
    g = nn.GRU(3, 4)
    oo, hh = g(torch.randn(5, 2, 3))
    cell = nn.LSTMCell(3, 4)
    a, b = cell(torch.randn(2, 3))
    l.flatten_parameters()
    print(l.all_weights[0][0].shape)
    return (o, h, c, oo, hh, a, b, l.state_dict())


def transformers_and_attention(torch):
    nn = torch.nn
    e = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    y = e(torch.randn(2, 3, 8))
    print(e)
    m = nn.MultiheadAttention(8, 2)
    q = torch.randn(3, 2, 8)
    o, w = m(q, q, q)
    o2, w2 = m(q, q, q, need_weights=False)
    print(w.shape, w2)
    t = nn.Transformer(8, 2, 1, 1, 16)
    z = t(torch.randn(3, 2, 8), torch.randn(4, 2, 8))
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    print(mask)
    return (y, o, w, o2, z)


def losses_of_torch(torch):
    nn = torch.nn
    F = nn.functional
    x = torch.randn(4, 5, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3])
    l = nn.CrossEntropyLoss(weight=torch.ones(5), label_smoothing=0.1)(x, y)
    l.backward()
    print(l, x.grad)
    print(nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: (a - b).abs().sum(-1))(x[:2], x[1:3], x[2:4]))
    crit = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0] * 5))
    print(crit, crit.pos_weight, crit(x, torch.ones(4, 5)))
    print(nn.KLDivLoss(reduction='batchmean')(x.log_softmax(1), torch.softmax(torch.randn(4, 5), 1)))


def a_loss_may_be_any_function(torch):
    def focal(p, t, g=2.0):
        ce = torch.nn.functional.cross_entropy(p, t, reduction='none')
        pt = torch.exp(-ce)
        return ((1 - pt) ** g * ce).mean()
    x = torch.randn(4, 5, requires_grad=True)
    l = focal(x, torch.tensor([0, 1, 2, 3]))
    l.backward()
    return (l, x.grad)
