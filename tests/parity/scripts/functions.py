"""Functions that define their own gradients, and derivatives of functions."""

from tests.parity.programs import attempt, net


def a_function_defines_its_gradient(torch):
    class Exp(torch.autograd.Function):

        @staticmethod
        def forward(ctx, i, k):
            r = i.exp() * k
            ctx.save_for_backward(r)
            ctx.k = k
            print('fw', ctx.needs_input_grad)
            return r

        @staticmethod
        def backward(ctx, g):
            r, = ctx.saved_tensors
            print('bw', ctx.needs_input_grad, torch.is_grad_enabled())
            return (g * r, None)
    x = torch.randn(3, requires_grad=True)
    y = Exp.apply(x, 2.0)
    print(y, y.grad_fn is not None)
    y.sum().backward()
    print(x.grad)
    z = Exp.apply(torch.ones(1), 1.0)
    print(z.requires_grad)
    g, = torch.autograd.grad(Exp.apply(x, 1.0).sum(), x, create_graph=True)
    print(g)
    g2, = torch.autograd.grad(g.sum(), x)
    print(g2)
    w = Exp.apply(x, 1.0).sum()
    w.backward()
    attempt(lambda: w.backward())
    for _ in range(3):
        l = Exp.apply(x, 0.5).mean()
        l.backward()
    print(x.grad)


def functions_with_several_outputs_work_in_place_and_stop_gradients(torch):
    class Two(torch.autograd.Function):

        @staticmethod
        def forward(a, b):
            return (a * b, a > 0)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.mark_non_differentiable(output[1])

        @staticmethod
        def backward(ctx, g, _):
            a, b = ctx.saved_tensors
            return (g * b, g * a)
    a = torch.randn(3, requires_grad=True)
    b = torch.randn(3, requires_grad=True)
    y, m = Two.apply(a, b)
    print(y, m, m.requires_grad)
    (y * y).sum().backward()
    print(a.grad, b.grad)
    class Inplace(torch.autograd.Function):

        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            x.mul_(2)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2
    c = torch.ones(2, requires_grad=True)
    d = c * 1
    e = Inplace.apply(d)
    print(e is d or True, d)
    e.sum().backward()
    print(c.grad)
    class Ste(torch.autograd.Function):

        @staticmethod
        def forward(ctx, x):
            return (x > 0).float()

        @staticmethod
        def backward(ctx, g):
            return torch.nn.functional.hardtanh(g)
    q = torch.randn(4, requires_grad=True)
    Ste.apply(q).sum().backward()
    print(q.grad)
    from importlib import import_module
    once = import_module(torch.__name__ + '.autograd.function').once_differentiable
    class Once(torch.autograd.Function):

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 2

        @staticmethod
        @once
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return 2 * x * g
    r = torch.randn(2, requires_grad=True)
    g, = torch.autograd.grad(Once.apply(r).sum(), r, create_graph=True)
    print(g.detach())
    attempt(lambda: torch.autograd.grad(g.sum(), r)[0].sum().item())
    class Wrong(torch.autograd.Function):

        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return (g, g)
    attempt(lambda: Wrong.apply(r).sum().backward())


def jacobians_hessians_and_their_products(torch):
    F = torch.autograd.functional
    x = torch.randn(3)
    y = torch.randn(3)
    print(F.jacobian(lambda a: a ** 2, x), F.jacobian(lambda a, b: (a * b, a.sum()), (x, y)), F.hessian(lambda a: (a ** 3).sum(), x), F.hessian(lambda a, b: (a * b ** 2).sum(), (x, y)))
    print(F.vjp(lambda a: a.exp(), x, torch.ones(3)), F.jvp(lambda a: a.exp(), x, torch.ones(3)), F.hvp(lambda a: (a ** 3).sum(), x, y), F.vhp(lambda a: (a ** 3).sum(), x, y), F.jacobian(lambda a: a.sin(), x, vectorize=True), F.jacobian(lambda a: a.sin(), x, create_graph=True).sum())
    attempt(lambda: F.vjp(lambda a: a, x))


def a_gradient_penalty_trains(torch):
    D = net(torch)
    x = torch.randn(4, 3, requires_grad=True)
    o = torch.optim.Adam(D.parameters())
    for _ in range(3):
        out = D(x)
        g = torch.autograd.grad(outputs=out, inputs=x, grad_outputs=torch.ones_like(out), create_graph=True, retain_graph=True, only_inputs=True)[0]
        gp = ((g.view(4, -1).norm(2, dim=1) - 1) ** 2).mean() * 10
        o.zero_grad()
        gp.backward()
        o.step()
        print(gp.item())
    return D.state_dict()
