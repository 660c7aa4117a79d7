"""Schedulers of learning rates, torch's and the script's own."""

from tests.parity.programs import net


def every_scheduler_of_torch_follows_its_schedule_and_resumes(torch):
    L = torch.optim.lr_scheduler
    def mk():
        m = net(torch)
        return torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    def run(f, n=6, arg=None):
        o = mk()
        s = f(o)
        r = []
        for i in range(n):
            o.step()
            s.step(*(() if arg is None else (arg[i],)))
            r.append(o.param_groups[0]['lr'])
        print(type(s).__name__, r, s.get_last_lr(), s._last_lr)
        return s
    for f in (lambda o: L.LambdaLR(o, lambda e: 0.95 ** e), lambda o: L.MultiplicativeLR(o, lambda e: 0.9), lambda o: L.StepLR(o, 2, 0.1), lambda o: L.MultiStepLR(o, [2, 4], 0.1), lambda o: L.ConstantLR(o, 0.5, 3), lambda o: L.LinearLR(o, 0.5, total_iters=4), lambda o: L.ExponentialLR(o, 0.9), lambda o: L.PolynomialLR(o, 4, 2.0), lambda o: L.CosineAnnealingLR(o, 5), lambda o: L.CosineAnnealingWarmRestarts(o, 3, 2), lambda o: L.CyclicLR(o, 0.01, 0.1, 2), lambda o: L.CyclicLR(o, 0.01, 0.1, 2, scale_fn=lambda x: 0.5 ** x, scale_mode='cycle'), lambda o: L.OneCycleLR(o, 0.5, total_steps=10), lambda o: L.SequentialLR(o, [L.ConstantLR(o, 0.1, 2), L.ExponentialLR(o, 0.9)], [2]), lambda o: L.ChainedScheduler([L.ConstantLR(o, 0.1, 2), L.ExponentialLR(o, 0.9)]), lambda o: L.SequentialLR(o, [L.LambdaLR(o, lambda e: (e + 1) / 3), L.CosineAnnealingLR(o, 4)], [3])):
        s = run(f)
        sd = s.state_dict()
        print({k: v for k, v in sd.items() if k not in ('lr_lambdas', '_schedulers', '_scale_fn_custom')})
        o = mk()
        s2 = f(o)
        s2.load_state_dict(sd)
        print(s2.get_last_lr())
    s = run(lambda o: L.ReduceLROnPlateau(o, 'min', 0.5, patience=1), 6, [1.0, 1.0, 1.0, 1.0, 1.0, 0.5])
    print(s.state_dict(), s.best, s.num_bad_epochs)
    s = run(lambda o: L.StepLR(o, 3))
    print(s.step_size, s.gamma, s.base_lrs, s._last_lr, s._step_count)
    s.gamma = 0.9
    print(s.gamma)


def a_scheduler_of_the_script_follows_its_schedule(torch):
    class Warm(torch.optim.lr_scheduler.LRScheduler):

        def __init__(self, o, w, last_epoch=-1):
            self.w = w
            super().__init__(o, last_epoch)

        def get_lr(self):
            return [b * min(1, (self.last_epoch + 1) / self.w) for b in self.base_lrs]
    m = net(torch)
    o = torch.optim.SGD(m.parameters(), lr=0.1)
    s = Warm(o, 4)
    for _ in range(5):
        o.step()
        s.step()
        print(o.param_groups[0]['lr'], s.get_last_lr())
    print({k: v for k, v in s.state_dict().items() if k in ('w', 'last_epoch', 'base_lrs', '_step_count', '_last_lr')})
