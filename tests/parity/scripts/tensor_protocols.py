"""Tensors in Python's protocols and numpy's."""

import math

import numpy as np

from tests.parity.programs import attempt


def tensors_are_numbers_and_sequences(torch):
    x = torch.arange(6.0).reshape(2, 3)
    print(len(x), [float(r.sum()) for r in x], x.T, x.mT, x.shape, x.size(), x.size(1), x.size(-1), x.stride(), x.stride(0), x.storage_offset(), x.ndim, x.dim())
    print(f'{x.sum():.3f} {x[0, 0]:d}' if False else f'{x.sum():.3f}', f'{x}', str(x), '%s' % x[0], '{:>8.2f}'.format(x[1, 1]))
    print(bool(x[0, 1]), int(x[1, 1]), float(x[1, 2]), x[1, 2].item(), x.tolist(), 3.0 in x, 99 in x, list(range(10))[torch.tensor(3)])
    print(x.numel(), x.nelement(), x.element_size(), x.itemsize, x.nbytes, x.is_contiguous(), x.T.is_contiguous(), x.type(), x.dtype, x.device, x.layout)
    print(x == 2, (x > 2).any(), x.eq(2).sum(), x is x, bool((x == x).all()), x != None)
    print(complex(torch.tensor(1 + 2j)), torch.tensor(1 + 2j).real, torch.tensor([1 + 2j]).imag, torch.tensor([[1 + 2j]]).H, torch.tensor(True) & torch.tensor(False))
    attempt(lambda: bool(x))
    attempt(lambda: x.item())
    attempt(lambda: len(torch.tensor(1)))
    attempt(lambda: int(x))
    attempt(lambda: list(torch.tensor(3)))
    attempt(lambda: x[5])
    attempt(lambda: x @ x)
    attempt(lambda: x.nope)
    attempt(lambda: x.reshape(4))
    attempt(lambda: hash(x) > 0)
    attempt(lambda: x.size(7))
    attempt(lambda: torch.tensor([[1, 2], [3]]))
    attempt(lambda: torch.zeros(2) + 'a')
    attempt(lambda: round(torch.tensor(2.567), 2))
    attempt(lambda: round(torch.tensor(2.567)))
    attempt(lambda: math.floor(torch.tensor(2.5)))
    attempt(lambda: abs(torch.tensor(-2)))
    attempt(lambda: divmod(7, 2))
    attempt(lambda: [*x[0]])
    attempt(lambda: max(x[0]))
    attempt(lambda: sum(x[0]))
    attempt(lambda: sorted(torch.tensor([3, 1, 2])))
    attempt(lambda: math.sqrt(torch.tensor(4.0)))
    attempt(lambda: range(torch.tensor(3)))
    attempt(lambda: 2 ** torch.tensor([1, 2]))
    attempt(lambda: 7 // torch.tensor([2]))
    attempt(lambda: 7 % torch.tensor([2]))
    attempt(lambda: -x[0])
    attempt(lambda: ~torch.tensor([True]))


def numpy_takes_and_returns_tensors(torch):
    x = torch.arange(4.0)
    a = np.ones(4)
    print(np.asarray(x), np.array(x), np.sum(x.numpy()), x.numpy().dtype, np.mean(np.array(x)), x.detach().cpu().numpy())
    attempt(lambda: x + a)
    attempt(lambda: np.sin(x))
    attempt(lambda: np.add(x, 1))
    attempt(lambda: x * np.float32(2))
    attempt(lambda: np.float64(2) * x)
    attempt(lambda: torch.from_numpy(a))
    attempt(lambda: torch.tensor(a))
    attempt(lambda: torch.as_tensor(a).dtype)
    attempt(lambda: x[np.array([0, 2])])
    attempt(lambda: x[np.int64(1)])
    attempt(lambda: torch.tensor(np.int64(3)))
    attempt(lambda: torch.tensor([np.float64(1.5)]))
    attempt(lambda: torch.zeros(np.int64(2)))
    attempt(lambda: np.stack([x, x]))
    attempt(lambda: np.dot(x, x))
    attempt(lambda: x.numpy(force=True))
    attempt(lambda: np.allclose(x, a))
    attempt(lambda: np.max(x))
    attempt(lambda: np.exp(x))
    attempt(lambda: np.concatenate([x, a]))
    attempt(lambda: x.__array__())
    attempt(lambda: np.array(x, dtype=np.int32))
    attempt(lambda: torch.asarray(a))
    attempt(lambda: torch.randn(2, requires_grad=True).numpy())


def data_and_gradients_can_be_set(torch):
    x = torch.ones(3, requires_grad=True)
    y = (x * 2).sum()
    print(x.is_leaf, y.is_leaf, x.grad, y.requires_grad, x.retains_grad)
    z = x * 3
    z.retain_grad()
    z.sum().backward()
    print(z.grad, z.retains_grad, x.grad)
    x.grad.zero_()
    x.grad = None
    print(x.grad)
    x.data.add_(1)
    print(x)
    x.data = torch.zeros(3)
    print(x, x.data)
    x.grad = torch.ones(3)
    print(x.grad)
    attempt(lambda: setattr(x, 'grad', 3))
    w = torch.zeros(2)
    print(w.requires_grad_() is w, w.requires_grad, w.detach_() is w, w.requires_grad)
    w.requires_grad = True
    print(w)
    attempt(lambda: x.add_(1))
    del x.grad
    print(x.grad)
    print(x.grad_fn, z.grad_fn.name() if z.grad_fn is not None else None, y.grad_fn.next_functions[0][0].name())
    v = x.detach()
    print(v.requires_grad, v.data_ptr() == x.data_ptr() if False else 1)


def elements_are_assigned_by_any_index(torch):
    x = torch.zeros(3, 4)
    x[0] = 1
    x[:, 1] = torch.tensor([5.0, 6.0, 7.0])
    x[x > 5] = -1
    x[..., 3] = 9
    x[1:, ::2] = torch.ones(2, 2) * 3
    x[[0, 2], [0, 1]] = torch.tensor([8.0, 8.0])
    x[None, 0, 0] = 4
    x[torch.tensor([True, False, True])] += 1
    print(x)
    x[1] += 2
    x[:, 0] *= 2
    print(x, x[..., 0], x[None].shape, x[:, None].shape, x[0, ..., 1], x[-1], x[::2], x[torch.tensor([0, 1]), 1], x[[True, False, True]], x[1:2, [0, 2]])
    x[0] = torch.arange(4)
    x[0, 0] = True
    print(x)
    x[2] = [1, 2, 3, 4] if False else 1
    print(x)
    attempt(lambda: x[3:1])
    attempt(lambda: x[0, 0, 0])
    attempt(lambda: x['a'])
    s = slice(0, 2)
    print(x[s], x[0:2][1], x[range(2)])
    attempt(lambda: x[1.5])


def tensors_are_made_of_data_and_sizes(torch):
    x = torch.ones(2, dtype=torch.float64)
    print(x.new_zeros(3), x.new_ones(2, 2), x.new_full((2,), 3.0), x.new_tensor([1, 2]), x.new_empty(0).shape, torch.zeros_like(x), torch.empty(0), torch.full((2,), 7), torch.full_like(x, 2), torch.eye(2), torch.arange(3), torch.linspace(0, 1, 3), torch.zeros(2, 3, dtype=torch.int), torch.ones([2]), torch.zeros(torch.Size([1, 2])))
    print(torch.tensor(3), torch.tensor([]), torch.tensor([[1.5, 2]]), torch.tensor([True]), torch.tensor([1, 2.5]), torch.tensor(10000000000.0), torch.tensor([1 + 1j]), torch.Tensor([1, 2]), torch.FloatTensor([1, 2]), torch.LongTensor([1, 2]), torch.Tensor(2, 3).shape, torch.BoolTensor([True]), torch.DoubleTensor(2).shape, torch.Tensor().shape)
    print(torch.scalar_tensor(2.0), torch.tensor(5, dtype=torch.float16), torch.as_tensor([1, 2]), torch.tensor(torch.ones(1)) if False else 1)


def sizes_are_tuples(torch):
    s = torch.zeros(2, 3).shape
    print(s, s[0], s[-1], list(s), s == (2, 3), s + (4,), torch.Size([1, 2]).numel(), s[:1], isinstance(s, tuple), isinstance(s, torch.Size), len(s), (4,) + s, s * 2, hash(s) == hash((2, 3)))
    a, b = s
    print(a, b, type(a))
    print(torch.zeros(*s).view(-1, s[0]).shape)
    print(type(s[:1]).__name__, type(s + (1,)).__name__, type((1,) + s).__name__, torch.Size((1,)), repr(torch.Size([])))


def operators_work_in_place(torch):
    x = torch.ones(3)
    y = x
    x += 1
    print(y, x is y)
    x -= 0.5
    x *= 2
    x /= 3
    x **= 2
    x //= 1
    x %= 2
    print(x)
    x.zero_().fill_(3).clamp_(max=2)
    print(x)
    b = torch.tensor([True])
    b |= torch.tensor([False])
    b &= True
    b ^= True
    print(b)
    i = torch.tensor([4])
    i <<= 1
    i >>= 2
    print(i)
    x.copy_(torch.arange(3))
    print(x)
    x.masked_fill_(x > 1, 0)
    x.index_fill_(0, torch.tensor([0]), 9)
    x.scatter_(0, torch.tensor([1]), 5.0)
    print(x)
    x.resize_(2) if False else 1
    m = torch.zeros(2, 2)
    m.fill_diagonal_(1)
    print(m.unsqueeze_(0).shape, m.squeeze_(0).shape, m.t_().shape)
    torch.add(x, 1, out=x)
    print(x)


def functions_return_what_torch_returns(torch):
    x = torch.tensor([1.0, 2.0])
    print(torch.is_grad_enabled(), torch.equal(x, x), torch.allclose(x, x + 1e-09), torch.numel(x), torch.broadcast_shapes((1, 2), (3, 1)), torch.__version__ is not None, torch.get_num_threads() > 0, torch.cuda.is_available(), torch.backends.cudnn.enabled if False else 1, torch.cuda.device_count(), torch.backends.mps.is_available())
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(torch.get_num_threads())
    torch.set_float32_matmul_precision('highest')
    torch.cuda.manual_seed_all(0)
    torch.cuda.empty_cache()
    print(torch.backends.cudnn.deterministic)
    v, i = torch.max(torch.randn(3, 4), dim=1)
    t = torch.topk(torch.arange(5.0), 2)
    print(v, i, t, t.values, torch.sort(torch.tensor([3, 1])), torch.unique(torch.tensor([1, 1, 2]), return_counts=True), torch.split(torch.arange(5), 2), torch.where(x > 1), torch.nonzero(x), torch.chunk(x, 2), torch.meshgrid(x, x, indexing='ij'), torch.linalg.svd(torch.eye(2)), torch.histc(x))
    print(torch.stack([x, x]), torch.cat((x, x)), torch.einsum('i,j->ij', x, x), torch.nn.functional.one_hot(torch.tensor([0, 2])), x.unbind(), torch.vmap if False else 1, x.apply_(lambda v: v * 2) if False else 1)
    for a, b in zip(torch.arange(2), x):
        print(a, b)
    print(torch.compile(lambda a: a * 2)(x) if False else 1, torch.Tensor.add(x, 1), torch.Tensor.sum(x))


def gradients_of_functions_and_of_gradients(torch):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x ** 3
    g, = torch.autograd.grad(y.sum(), x, create_graph=True)
    print(g)
    g2, = torch.autograd.grad(g.sum(), x)
    print(g2)
    print(torch.autograd.grad([x.sum(), (x * 2).sum()], [x], grad_outputs=[torch.tensor(1.0), torch.tensor(2.0)]))
    z = torch.ones(1, requires_grad=True)
    print(torch.autograd.grad(x.sum(), [x, z], allow_unused=True), torch.autograd.grad(x.sum(), [x, z], materialize_grads=True))
    attempt(lambda: torch.autograd.grad(x.sum(), [z])[0].sum().item())
    torch.autograd.backward([(x * 2).sum(), (x * 3).sum()])
    print(x.grad)
    x.grad = None
    (x * z).sum().backward(inputs=[z])
    print(x.grad, z.grad)
    (x * x).backward(gradient=torch.tensor([1.0, 10.0]))
    print(x.grad)
    print(torch.autograd.grad((x * torch.eye(2)).sum(0), x, grad_outputs=torch.eye(2), is_grads_batched=True))
    d = torch.nn.Linear(2, 1)
    i = torch.randn(4, 2, requires_grad=True)
    o = d(i)
    gp, = torch.autograd.grad(o, i, torch.ones_like(o), create_graph=True, retain_graph=True)
    pen = ((gp.norm(2, dim=1) - 1) ** 2).mean()
    pen.backward()
    print(d.weight.grad)
    a = torch.ones(1, requires_grad=True)
    b = a.exp()
    attempt(lambda: b.add_(1).sum().backward() or a.grad)
