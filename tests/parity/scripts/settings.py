"""Settings, random numbers and types."""

from tests.parity.programs import attempt


def types_have_limits_and_promote(torch):
    print(torch.float32, torch.float is torch.float32, torch.float32 == torch.float, torch.int64.is_floating_point, torch.float16.itemsize, isinstance(torch.float32, torch.dtype), torch.bfloat16.is_signed, torch.float32.to_complex(), torch.complex64.to_real())
    print(torch.finfo(torch.float32), torch.finfo(torch.float16).max, torch.finfo(torch.bfloat16).eps, torch.iinfo(torch.int8), torch.iinfo(torch.int64).max, torch.finfo().tiny, torch.finfo(torch.float64).smallest_normal, torch.finfo(torch.float32).resolution, torch.iinfo(torch.uint8).bits)
    print(torch.promote_types(torch.int32, torch.float16), torch.result_type(torch.tensor([1]), 1.5), torch.can_cast(torch.float32, torch.int32), torch.is_floating_point(torch.ones(1)), torch.is_complex(torch.ones(1)), torch.is_tensor(3), torch.typename(torch.ones(1)), torch.is_nonzero(torch.ones(1)), torch.is_storage(3))
    print(torch.get_default_dtype())
    x = torch.ones(2)
    print(x.type(torch.float64).dtype, x.type('torch.IntTensor').dtype, x.to(torch.int8), x.half(), x.long(), x.bool(), x.byte(), x.double(), x.to('cpu'), x.to(x.double()).dtype, x.type_as(torch.ones(1, dtype=torch.int)).dtype, x.int(), x.char(), x.short(), x.bfloat16(), x.cfloat())
    print(x.type() == 'torch.FloatTensor', x.long().type(), isinstance(x, torch.Tensor), isinstance(x, torch.FloatTensor), isinstance(torch.nn.Parameter(x), torch.Tensor), torch.device('cpu'), torch.device('cuda:0'), torch.device('cpu') == x.device, str(x.device), torch.device('cuda', 1).index)


def the_default_type_can_be_set(torch):
    try:
        torch.set_default_dtype(torch.float64)
        print(torch.get_default_dtype(), torch.tensor([1.5]), torch.zeros(2), torch.nn.Linear(2, 2).weight.dtype, torch.randn(2), torch.tensor(1.0).dtype, torch.tensor(1j).dtype, torch.arange(3.0).dtype)
    finally:
        torch.set_default_dtype(torch.float32)
    print(torch.zeros(1))
    attempt(lambda: torch.set_default_dtype(torch.int32))


def random_numbers_follow_generators_and_states(torch):
    s = torch.get_rng_state()
    a = torch.randn(2)
    torch.set_rng_state(s)
    b = torch.randn(2)
    print(a, b, s.dtype, s.shape, torch.initial_seed())
    g = torch.Generator()
    g.manual_seed(3)
    print(torch.randn(2, generator=g), g.initial_seed(), torch.rand(2, generator=g), torch.randperm(4, generator=g), torch.randint(0, 5, (3,), generator=g), g.device)
    st = g.get_state()
    c = torch.rand(1, generator=g)
    g.set_state(st)
    print(c, torch.rand(1, generator=g))
    print(torch.multinomial(torch.tensor([0.2, 0.8]), 3, replacement=True, generator=g), torch.bernoulli(torch.ones(2) * 0.5, generator=g), torch.empty(2).normal_(generator=g), torch.Generator().manual_seed(1).initial_seed())
    with torch.random.fork_rng():
        torch.randn(5)
    print(torch.randn(1))
    torch.random.manual_seed(5)
    print(torch.rand(1))
    print(torch.seed() > 0, torch.default_generator.initial_seed() > 0)


def tensors_print_as_they_are_told_to(torch):
    torch.set_printoptions(precision=2, sci_mode=False)
    print(torch.tensor([1.23456, 1e-05]))
    torch.set_printoptions(profile='default')
    print(torch.tensor([1.23456]), torch.arange(2000))
    torch.set_printoptions(threshold=5, edgeitems=1, linewidth=40)
    print(torch.arange(20.0))
    torch.set_printoptions(profile='default')


def contexts_decorate_functions_and_generators(torch):
    with torch.no_grad():
        print(torch.is_grad_enabled(), (torch.ones(1, requires_grad=True) * 2).requires_grad)
    @torch.no_grad()
    def f(x):
        return x * 2
    print(f(torch.ones(1, requires_grad=True)).requires_grad)
    @torch.no_grad
    def g(x):
        return x * 2
    print(g(torch.ones(1, requires_grad=True)).requires_grad)
    with torch.inference_mode():
        y = torch.ones(1) * 2
        print(y.is_inference(), torch.is_inference_mode_enabled(), torch.is_grad_enabled())
    @torch.inference_mode()
    def h(x):
        return x * 2
    print(h(torch.ones(1, requires_grad=True)).is_inference())
    torch.set_grad_enabled(False)
    print(torch.is_grad_enabled())
    torch.set_grad_enabled(True)
    with torch.set_grad_enabled(False):
        print(torch.is_grad_enabled())
    with torch.enable_grad():
        print(torch.is_grad_enabled())
    @torch.set_grad_enabled(False)
    def k(x):
        return x * 2
    print(k(torch.ones(1, requires_grad=True)).requires_grad, torch.is_grad_enabled())
    @torch.no_grad()
    def gen():
        yield torch.is_grad_enabled()
        yield torch.is_grad_enabled()
    print([(v, torch.is_grad_enabled()) for v in gen()])
    @torch.no_grad()
    class Q:
        pass
    with torch.autograd.no_grad():
        print(torch.is_grad_enabled())


def anomalies_are_looked_for_on_demand(torch):
    with torch.autograd.detect_anomaly():
        x = torch.tensor([-1.0], requires_grad=True)
        attempt(lambda: torch.sqrt(x).sum().backward() or x.grad)
    with torch.autograd.set_detect_anomaly(False):
        (x * 2).sum().backward()
        print(x.grad)
    torch.autograd.set_detect_anomaly(True)
    torch.autograd.set_detect_anomaly(False)
