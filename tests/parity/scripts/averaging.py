"""Averages of parameters, and mixed precision."""

from tests.parity.programs import net


def models_are_averaged_over_steps(torch):
    S = torch.optim.swa_utils
    nn = torch.nn
    m = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    a = S.AveragedModel(m)
    e = S.AveragedModel(m, multi_avg_fn=S.get_ema_multi_avg_fn(0.9))
    e2 = S.AveragedModel(m, avg_fn=S.get_ema_avg_fn(0.8), use_buffers=True)
    c = S.AveragedModel(m, avg_fn=lambda x, y, n: 0.5 * x + 0.5 * y)
    w = S.SWALR(o, 0.05, anneal_epochs=3)
    for _ in range(4):
        o.zero_grad()
        m(torch.randn(5, 3)).pow(2).mean().backward()
        o.step()
        [q.update_parameters(m) for q in (a, e, e2, c)]
        w.step()
        print(o.param_groups[0]['lr'])
    S.update_bn([torch.randn(5, 3) for _ in range(3)], a)
    print(a, a.n_averaged, list(a.state_dict())[:2], w.state_dict())
    return ([q.state_dict() for q in (a, e, e2, c)], a(torch.ones(2, 3)))


def losses_are_scaled_under_autocast(torch):
    m = net(torch)
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    s = torch.amp.GradScaler('cpu', init_scale=8.0)
    x = torch.randn(4, 3)
    for _ in range(3):
        o.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            y = m(x)
            l = y.float().pow(2).mean()
            print(y.dtype, torch.is_autocast_enabled('cpu'))
        s.scale(l).backward()
        s.unscale_(o)
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        s.step(o)
        s.update()
        print(l.item(), s.get_scale(), s.is_enabled())
    print(s.state_dict())
    s2 = torch.amp.GradScaler('cpu')
    s2.load_state_dict(s.state_dict())
    print(s2.get_scale())
    with torch.amp.autocast('cpu'):
        print((torch.randn(2, 2) @ torch.randn(2, 2)).dtype)
    @torch.autocast('cpu')
    def f():
        return (torch.randn(2, 2) @ torch.randn(2, 2)).dtype
    print(f())
    g = torch.cuda.amp.GradScaler(enabled=False)
    print(g.is_enabled(), g.get_scale(), g.state_dict())
    return m.state_dict()
