"""Tensors: how they print, what Python values they give, indexing, operators, iteration."""

from typing import Any

import numpy as np
import pytest

from tests.parity.comparing import assert_raises_the_same, assert_same

DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8"),
    *("bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"),
)


@pytest.mark.parametrize("name", DTYPES)
def test_a_tensor_of_each_dtype_prints_and_returns_what_torch_does(name: str) -> None:
    def program(torch: Any) -> Any:
        x = torch.tensor([[0, 1, 2], [3, 4, 1]]).to(getattr(torch, name))
        print(x, x.dtype, x.shape, x.size(0), x.ndim, x.numel(), x.element_size())
        print(x[1, 1], x.is_floating_point(), x.is_complex())
        return x.tolist(), x[0, 2].item()

    assert_same(program)


def test_printing_shows_what_torch_shows() -> None:
    def program(torch: Any) -> None:
        print(torch.randn(3, 4), torch.randn(2, 2, 2), torch.randn(40, 40), torch.arange(2000))
        print(torch.tensor(1.5), torch.tensor([]), torch.zeros(2, 0), torch.tensor(7))
        print(torch.tensor([1e-8, 1.0, 1e8]), torch.tensor([float("nan"), float("inf"), -0.0]))
        x = torch.randn(2, requires_grad=True)
        print(x, x * 2, (x * 2).sum(), x.detach(), torch.nn.Parameter(torch.ones(2)))
        print([x, x.shape], {"x": x}, (x, None), f"{x}", str(x), repr(x))
        print(x.exp().mean().reshape(1, 1), torch.randn(3, dtype=torch.float64))

    assert_same(program)


def test_format_specifications_work_on_scalars() -> None:
    def program(torch: Any) -> None:
        x = torch.tensor(3.14159, requires_grad=True)
        print(f"{x:.3f} {x:10.2e} {x:>8.1f}| {x.item():.4f} {torch.tensor(7):05d} {x * 2:.1f}")
        print("{:.2f} {!r} {}".format(x, x, x), "%.3f" % x.detach(), round(x.item(), 2))

    assert_same(program)


def test_format_specifications_are_refused_on_other_tensors() -> None:
    assert_raises_the_same(lambda torch: f"{torch.ones(2):.2f}")


def test_named_tuples_print_and_unpack() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, 4)
        best = x.max(dim=1)
        values, indices = best
        print(best, torch.topk(x, 2), x.sort(dim=0), torch.min(x, 0))
        print(type(best).__name__, best.values, best.indices, best[0])
        return values, indices, x.median(dim=1).values, torch.aminmax(x)

    assert_same(program)


def test_python_values_are_those_of_torch() -> None:
    def program(torch: Any) -> Any:
        x = torch.tensor([[1.5, -2.25], [0.1, 4.0]])
        return (
            *(x.tolist(), x[0, 1].item(), x.numpy(), float(x[0, 0]), int(x[1, 1]), bool(x[0, 0])),
            *(len(x), x.shape, tuple(x.size()), x.sum().tolist(), torch.tensor(True).item()),
            *(list(range(5))[torch.tensor(2)], np.asarray(x), complex(torch.tensor(1 + 2j))),
        )

    assert_same(program)


def test_indexing_is_that_of_torch() -> None:
    def program(torch: Any) -> Any:
        x = torch.arange(24).reshape(2, 3, 4)
        mask = x % 3 == 0
        return (
            *(x[0], x[-1, 1:], x[..., 0], x[:, None, 1], x[:, ::2, 1:3], x[1, 2, 3]),
            *(x[mask], x[[0, 1], [2, 0]], x[torch.tensor([1, 0])], x[:, torch.tensor([0, 2])]),
            *(x[True], x[0][1][2], x[np.int64(1)], x[torch.tensor(1)], x[x.sum((1, 2)) > 100]),
        )

    assert_same(program)


def test_slices_can_be_assigned() -> None:
    def program(torch: Any) -> Any:
        x = torch.zeros(4, 4)
        x[0] = 1
        x[1, :2] = torch.tensor([5.0, 6.0])
        x[2:, 2:] += 3
        x[x == 0] = -1
        x[..., -1] = torch.arange(4.0)
        x[[0, 3], [1, 1]] = torch.tensor([9.0, 8.0])
        row = x[2]
        row[0] = 100
        x[3] *= 2
        return x

    assert_same(program)


def test_operations_in_place_change_the_tensor_and_its_views() -> None:
    def program(torch: Any) -> Any:
        x = torch.ones(2, 3)
        same = x
        view = x.view(3, 2)
        x += 1
        x.mul_(3).sub_(0.5)
        x /= 2
        x **= 2
        view[0, 0] = 7
        x.clamp_(max=8)
        torch.relu_(x)
        x.t_()
        print(x, same is x, view, x.shape)
        x.fill_(2.5).zero_()
        return x, view, same

    assert_same(program)


def test_operators_take_numbers_and_tensors_on_both_sides() -> None:
    def program(torch: Any) -> Any:
        x, y = torch.tensor([5.0, -3.0, 2.0]), torch.tensor([2.0, 4.0, -1.0])
        i, j = torch.tensor([5, 6]), torch.tensor([3, 2])
        return (
            *(x + y, x - 1, 2 * x, x / y, 1 / x, x // 2, 7 // x, x % 3, 5 % x, x**2, 2**x, -x, +x),
            *(abs(x), x @ y, x.reshape(1, 3) @ y, i & j, i | 1, i ^ j, ~i, i << 1, i >> j, 1 - x),
            *(x > y, x >= 2, x < 0, 0 <= x, x == y, x != 2, i // j, i / j, i**2, True + i),
            *(3.5 * i, i.float() @ i.float(), x == 5, x is None, divmod(7, 2), x.reshape(3, 1).T),
        )

    assert_same(program)


def test_comparisons_decide_branches() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(5)
        taken = []
        for value in x:
            if value > 0:
                taken.append("positive")
            elif value.item() < -0.5 and not value == 0:
                taken.append("low")
            else:
                taken.append("high")
        total = x.sum()
        while total > -10:
            total = total - 3
        print(taken, bool((x > 5).any()), (x <= 5).all().item(), x[0] in x, max(x), sorted(x)[0])
        return total

    assert_same(program)


def test_the_truth_of_several_elements_is_refused() -> None:
    assert_raises_the_same(lambda torch: bool(torch.ones(2)))


def test_iteration_len_and_unpacking_go_over_the_first_dimension() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, 2)
        a, b, c = x
        first, *rest = torch.arange(4)
        pairs = [(int(i), row.sum().item()) for i, row in zip(torch.arange(3), x, strict=True)]
        for index, row in enumerate(x):
            print(index, row)
        return len(x), a, b, c, first, rest, pairs, [*reversed(list(x))], torch.stack(list(x))

    assert_same(program)


@pytest.mark.parametrize("function", [len, list, iter], ids=lambda function: function.__name__)
def test_a_scalar_has_no_length(function: Any) -> None:
    assert_raises_the_same(lambda torch: function(torch.tensor(1.0)))


def test_tensors_are_created_as_in_torch() -> None:
    def program(torch: Any) -> Any:
        x = torch.tensor([[1, 2], [3, 4]])
        return (
            *(torch.zeros(2, 3), torch.ones(2), torch.full((2, 2), 7), torch.eye(3), x.float()),
            *(torch.arange(0, 1, 0.25), torch.linspace(0, 1, 5), torch.rand(2), torch.randn(3)),
            *(torch.randint(0, 10, (4,)), torch.randperm(6), torch.zeros_like(x), x.new_ones(2)),
            *(
                torch.ones(2, dtype=torch.int16),
                torch.tensor([1, 2.5]),
                torch.tensor([True, False]),
            ),
            *(
                torch.tensor(3),
                torch.tensor([[]]),
                torch.tensor(np.arange(3)),
                torch.rand_like(x * 1.0),
            ),
            *(torch.tensor(np.ones(2)), torch.from_numpy(np.ones(2, np.float32)), torch.tensor(x)),
            *(torch.as_tensor([1.0]), torch.tensor([1 + 2j]), torch.tensor([x[0, 0], x[1, 1]])),
            *(torch.empty(0), torch.bernoulli(torch.full((4,), 0.5)), torch.normal(0.0, 1.0, (3,))),
            *(
                torch.tensor([1, 2], dtype=torch.float64),
                torch.tensor(2**40),
                torch.tensor(False),
            ),
        )

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert_same(program)


def test_functions_and_methods_are_those_of_torch() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, 4)
        return (
            *(x.sum(dim=0), x.mean(1, keepdim=True), x.std(), x.argmax(dim=1), x.view(-1), x.t()),
            *(torch.cat([x, x]), torch.stack([x, x], dim=1), x.softmax(-1), x.transpose(0, 1)),
            *(torch.where(x > 0, x, 0.0), x.clamp(-1, 1), x.permute(1, 0), x.flatten(), x.norm()),
            *(torch.einsum("ij,kj->ik", x, x), torch.matmul(x, x.T), x.unsqueeze(0).squeeze()),
            *(x.chunk(2), x.split([1, 3], dim=1), x.gather(1, torch.zeros(3, 1, dtype=torch.long))),
            *(
                x.cumsum(0),
                torch.allclose(x, x),
                torch.equal(x, x + 1),
                x.expand(2, 3, 4),
                x.abs().log(),
            ),
            *(x.repeat(2, 1), x.masked_fill(x < 0, 0.0), torch.logsumexp(x, 1), x.to(torch.int64)),
            *(
                torch.meshgrid(x[0], x[1], indexing="ij"),
                x.type(torch.float64),
                x.double(),
                x.int(),
            ),
            *(torch.nn.functional.one_hot(torch.tensor([0, 2])), torch.tril(x), x.var(dim=1)),
            *(torch.linalg.norm(x), torch.fft.fft(x[0]).real, x.isnan().any(), x.unique().shape),
        )

    assert_same(program)


def test_dtypes_devices_and_sizes_compare_and_print_as_in_torch() -> None:
    def program(torch: Any) -> Any:
        x = torch.zeros(2, 3)
        print(x.dtype, x.device, x.shape, x.size(), torch.float, torch.device("cpu"), x.shape[0])
        print(x.dtype == torch.float32, x.device == torch.device("cpu"), x.shape == (2, 3))
        print(x.to("cpu").dtype, x.to(torch.device("cpu")).shape, x.to(torch.float64).dtype)
        print(torch.Size([1, 2]).numel(), x.shape + (4,), x.shape[1:], list(x.shape), x.type())
        batch, features = x.shape
        return batch * features, x.view(x.size(0), -1).shape, x.is_cuda, x.requires_grad, x.is_leaf

    assert_same(program)


def test_random_numbers_follow_the_seed() -> None:
    def program(torch: Any) -> Any:
        torch.manual_seed(7)
        first = torch.randn(3), torch.rand(2), torch.randint(0, 9, (3,))
        torch.manual_seed(7)
        second = torch.randn(3), torch.nn.Linear(2, 2).weight, torch.randperm(5)
        return first, second, torch.nn.functional.dropout(torch.ones(10))

    assert_same(program)


@pytest.mark.parametrize(
    "program",
    [
        lambda torch: print(torch.ones(2, 3) @ torch.ones(2, 3)),
        lambda torch: print(torch.ones(2)[5]),
        lambda torch: torch.ones(3).view(2, 2).sum().item(),
        lambda torch: torch.cat([torch.ones(2), torch.ones(2, 2)]).tolist(),
        lambda torch: torch.nn.Linear(3, 2)(torch.ones(1, 4)).tolist(),
        lambda torch: torch.tensor([1, 2], requires_grad=True),
        lambda torch: torch.ones(2).item(),
        lambda torch: torch.ones(2, requires_grad=True).numpy(),
        lambda torch: print(torch.nn.Embedding(3, 2)(torch.tensor([5]))),
        lambda torch: print(torch.ones(2).sum(dim=3)),
        lambda torch: torch.tensor([[1, 2], [3]]),
        lambda torch: print(torch.ones(2, requires_grad=True).add_(1)),
        lambda torch: torch.nn.CrossEntropyLoss()(torch.ones(2, 3), torch.tensor([0, 7])).item(),
    ],
)  # fmt: skip
def test_an_error_is_of_the_class_that_torch_raises_and_has_its_message(program: Any) -> None:
    assert_raises_the_same(program)
