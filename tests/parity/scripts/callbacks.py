"""Functions of the script that torch calls amid an operation."""

from tests.parity.programs import attempt, net


def hooks_of_tensors_see_and_change_gradients(torch):
    x = torch.ones(3, requires_grad=True)
    log = []
    y = x * 2
    h = y.register_hook(lambda g: g * 3)
    x.register_hook(lambda g: print('x', g))
    y.sum().backward()
    print(x.grad)
    h.remove()
    (y2 := (x * 2)).sum().backward()
    print(x.grad)
    g, = torch.autograd.grad((x * 5).sum(), x)
    print(g)
    attempt(lambda: torch.ones(1).register_hook(print))


def an_optimizer_may_step_amid_the_backward(torch):
    m = net(torch)
    o = {p: torch.optim.SGD([p], lr=0.1) for p in m.parameters()}
    for p in m.parameters():
        p.register_post_accumulate_grad_hook(lambda q: (o[q].step(), o[q].zero_grad()) and None)
    for _ in range(3):
        m(torch.randn(4, 3)).pow(2).mean().backward()
    print(m[0].weight.grad)
    return m.state_dict()


def backward_hooks_of_modules_see_and_change_gradients(torch):
    m = net(torch)
    log = []
    m[1].register_full_backward_hook(lambda mod, gi, go: print('bw', type(mod).__name__, gi, go))
    m.register_full_backward_pre_hook(lambda mod, go: print('pre', go))
    m[2].register_full_backward_hook(lambda mod, gi, go: (gi[0] * 2,))
    x = torch.randn(2, 3, requires_grad=True)
    m(x).sum().backward()
    print(x.grad)
    m(torch.randn(2, 3)).sum().backward()
    return m[0].weight.grad


def what_a_hook_raises_ends_the_backward(torch):
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    def bad(g):
        raise KeyError('mine')
    h = y.register_hook(bad)
    attempt(lambda: y.sum().backward())
    h.remove()
    (x * 3).sum().backward()
    print(x.grad)


def nodes_of_the_graph_can_be_named_walked_and_hooked(torch):
    x = torch.ones(2, requires_grad=True)
    y = (x * 2 + 1).sum()
    print(y.grad_fn.name(), y.grad_fn.next_functions[0][0].name(), y.grad_fn.next_functions[0][1], x.grad_fn, (x * 2).grad_fn is None)
    n = y.grad_fn.next_functions[0][0]
    n.register_hook(lambda gi, go: print('node', gi, go))
    y.backward()


def lbfgs_calls_its_closure_and_its_state_goes_on_elsewhere(torch):
    m = net(torch)
    o = torch.optim.LBFGS(m.parameters(), lr=0.5, max_iter=4, line_search_fn='strong_wolfe')
    x = torch.randn(6, 3)
    def cl():
        o.zero_grad()
        l = m(x).pow(2).mean()
        l.backward()
        return l
    for _ in range(3):
        print(o.step(cl).item())
    sd = o.state_dict()
    print(sorted(sd['state'][0]), sd['state'][0]['func_evals'])
    o2 = torch.optim.LBFGS(m.parameters(), lr=0.5, max_iter=4, line_search_fn='strong_wolfe')
    o2.load_state_dict(sd)
    print(o2.step(cl).item())
    return m.state_dict()
