"""Optimizers as Python sees them: groups, options, state, hooks, and the script's own."""

import copy
import itertools

from tests.parity.programs import attempt, net


def an_optimizer_of_the_script_trains_under_a_scheduler(torch):
    class MySGD(torch.optim.Optimizer):

        def __init__(self, params, lr=0.1, mom=0.9):
            super().__init__(params, dict(lr=lr, mom=mom))

        @torch.no_grad()
        def step(self, closure=None):
            for g in self.param_groups:
                for p in g['params']:
                    if p.grad is None:
                        continue
                    s = self.state[p]
                    if 'buf' not in s:
                        s['buf'] = torch.zeros_like(p)
                    s['buf'].mul_(g['mom']).add_(p.grad)
                    p.add_(s['buf'], alpha=-g['lr'])
    m = net(torch)
    o = MySGD(m.parameters(), lr=0.05)
    sch = torch.optim.lr_scheduler.StepLR(o, 2, 0.5)
    x = torch.randn(4, 3)
    for _ in range(5):
        o.zero_grad()
        l = m(x).pow(2).mean()
        l.backward()
        o.step()
        sch.step()
        print(l.item(), o.param_groups[0]['lr'], sch.get_last_lr())
    print(o, isinstance(o, torch.optim.Optimizer))
    sd = o.state_dict()
    print(sd['param_groups'], list(sd['state']))
    o2 = MySGD(m.parameters())
    o2.load_state_dict(sd)
    print(o2.state[m[0].bias]['buf'])
    return m.state_dict()


def state_and_options_can_be_read_written_and_loaded(torch):
    m = net(torch)
    o = torch.optim.Adam(m.parameters(), lr=0.01, betas=(0.8, 0.9))
    x = torch.randn(4, 3)
    def go(o, m):
        o.zero_grad()
        l = m(x).pow(2).mean()
        l.backward()
        o.step()
        return l.item()
    print(go(o, m), o.state_dict()['param_groups'])
    sd = o.state_dict()
    print(sd['state'][0]['step'], sd['state'][0]['exp_avg'], sd['state'].keys())
    m2 = copy.deepcopy(m)
    o2 = torch.optim.Adam(m2.parameters(), lr=0.5)
    o2.load_state_dict(copy.deepcopy(sd))
    print(go(o, m), go(o2, m2), o2.param_groups[0]['lr'])
    print(o2.state[m2[0].bias]['exp_avg_sq'], len(o2.state), m2[0].bias in o2.state)
    g = o.param_groups[0]
    print(sorted(g.keys()), len(g['params']), g['lr'], 'lr' in g, g.get('zz'), type(o.param_groups).__name__, isinstance(g, dict), {k: v for k, v in g.items() if k != 'params'})
    g['lr'] = 0.5
    g['lr'] *= 0.1
    print(g['lr'], o)
    g.update(lr=0.2)
    print(o.param_groups[0]['lr'], o.defaults['lr'])
    attempt(lambda: o2.load_state_dict({'state': {}, 'param_groups': []}))
    attempt(lambda: torch.optim.SGD([], lr=1))
    attempt(lambda: torch.optim.SGD(m[0].weight, lr=1))
    attempt(lambda: torch.optim.SGD([3], lr=1))
    attempt(lambda: g['nope'])
    return (m.state_dict(), m2.state_dict())


def parameter_groups_have_options_of_their_own(torch):
    m = net(torch)
    o = torch.optim.SGD([{'params': m[0].parameters()}, {'params': m[2].parameters(), 'lr': 0.5}], lr=0.1, momentum=0.9)
    print(o)
    o2 = torch.optim.SGD(m[0].parameters(), lr=0.1)
    o2.add_param_group({'params': m[2].parameters(), 'lr': 1.0})
    print(o2, len(o2.param_groups))
    o3 = torch.optim.AdamW(m.named_parameters())
    print(o3.param_groups[0]['param_names'], o3.state_dict()['param_groups'][0]['param_names'])
    for pg in o.param_groups:
        pg['lr'] = pg['lr'] * 0.5
        print(pg['lr'])


def hooks_run_around_steps_and_state_dicts(torch):
    m = net(torch)
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    h = o.register_step_pre_hook(lambda op, a, k: print('pre', a, k))
    o.register_step_post_hook(lambda op, a, k: print('post'))
    m(torch.randn(2, 3)).sum().backward()
    o.step()
    h.remove()
    o.step()
    o.register_state_dict_post_hook(lambda op, sd: sd.update(x=1))
    print(o.state_dict()['x'])


def several_optimizers_and_models_share_a_session(torch):
    nn = torch.nn
    G = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    D = net(torch)
    og = torch.optim.Adam(G.parameters(), lr=0.01)
    od = torch.optim.Adam(D.parameters(), lr=0.01)
    bce = nn.BCEWithLogitsLoss()
    for _ in range(4):
        z = torch.randn(5, 2)
        r = torch.randn(5, 3)
        od.zero_grad()
        l = bce(D(r), torch.ones(5, 2)) + bce(D(G(z).detach()), torch.zeros(5, 2))
        l.backward()
        od.step()
        og.zero_grad()
        lg = bce(D(G(z)), torch.ones(5, 2))
        lg.backward()
        og.step()
        print(l.item(), lg.item())
    both = torch.optim.SGD(list(G.parameters()) + list(D.parameters()), lr=0.1)
    both.step()
    import itertools
    torch.optim.SGD(itertools.chain(G.parameters(), D.parameters()), lr=0.1)
    D2 = net(torch)
    D2.load_state_dict(D.state_dict())
    for a, b in zip(D2.parameters(), D.parameters()):
        a.data.copy_(0.9 * a.data + 0.1 * b.data)
        a.data.add_(-0.1 * b.grad)
    return (G.state_dict(), D.state_dict(), D2.state_dict())
