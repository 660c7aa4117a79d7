"""Autograd: gradients, graphs, and the contexts that switch them off."""

from typing import Any

from tests.parity.comparing import assert_raises_the_same, assert_same


def test_inputs_collect_gradients() -> None:
    def program(torch: Any) -> Any:
        x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        y = torch.randn(2, requires_grad=True)
        ((x * y).sin().sum() + (x**2).mean()).backward()
        print(x.grad, y.grad, x.is_leaf, (x * 2).requires_grad)
        return x.grad, y.grad

    assert_same(program)


def test_gradients_accumulate_and_can_be_cleared() -> None:
    def program(torch: Any) -> Any:
        x = torch.ones(2, requires_grad=True)
        for _ in range(3):
            (x * 2).sum().backward()
        seen = x.grad.clone()
        x.grad.zero_()
        (x * 5).sum().backward()
        again = x.grad.clone()
        x.grad = None
        print(x.grad)
        x.grad = torch.tensor([3.0, 4.0])
        return seen, again, x.grad

    assert_same(program)


def test_retain_graph_allows_a_second_backward() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, requires_grad=True)
        y = (x.exp() * x).sum()
        y.backward(retain_graph=True)
        first = x.grad.clone()
        y.backward()
        return first, x.grad

    assert_same(program)


def test_a_second_backward_without_it_is_refused() -> None:
    def program(torch: Any) -> None:
        x = torch.randn(3, requires_grad=True)
        y = (x.exp() * x).sum()
        y.backward()
        y.backward()
        print(x.grad)

    assert_raises_the_same(program)


def test_backward_takes_a_gradient_for_what_is_no_scalar() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, requires_grad=True)
        (x * x).backward(torch.tensor([1.0, 0.5, 2.0]))
        first = x.grad.clone()
        (x * x).backward(gradient=torch.ones(3))
        return first, x.grad

    assert_same(program)


def test_backward_of_what_is_no_scalar_is_refused_without_one() -> None:
    def program(torch: Any) -> None:
        x = torch.randn(3, requires_grad=True)
        (x * x).backward()
        print(x.grad)

    assert_raises_the_same(program)


def test_autograd_grad_returns_gradients() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, requires_grad=True)
        w = torch.randn(3, requires_grad=True)
        (gx, gw) = torch.autograd.grad((x * w).sin().sum(), (x, w), create_graph=True)
        (second,) = torch.autograd.grad(gx.sum(), x)
        model = torch.nn.Linear(2, 1)
        of_model = torch.autograd.grad(model(torch.ones(1, 2)).sum(), model.parameters())
        return gx, gw, second, x.grad is None, of_model

    assert_same(program)


def test_contexts_switch_gradients_off_and_on() -> None:
    def program(torch: Any) -> Any:
        x = torch.ones(2, requires_grad=True)
        seen = [(x * 2).requires_grad, torch.is_grad_enabled()]
        with torch.no_grad():
            seen += [(x * 2).requires_grad, torch.is_grad_enabled()]
            with torch.enable_grad():
                seen += [(x * 2).requires_grad, torch.is_grad_enabled()]
            seen.append((x * 2).requires_grad)
        with torch.inference_mode():
            y = x * 2
            seen += [y.requires_grad, torch.is_grad_enabled()]
        with torch.set_grad_enabled(False):
            seen.append((x * 3).requires_grad)
        torch.set_grad_enabled(False)
        seen.append((x * 3).requires_grad)
        torch.set_grad_enabled(True)
        seen.append((x * 3).requires_grad)
        return seen

    assert_same(program)


def test_contexts_decorate_functions() -> None:
    def program(torch: Any) -> Any:
        @torch.no_grad()
        def without(x: Any) -> Any:
            return x * 2

        @torch.inference_mode()
        def inferred(x: Any) -> Any:
            return x * 3

        @torch.enable_grad()
        def tracked(x: Any) -> Any:
            return x * 4

        x = torch.ones(2, requires_grad=True)
        with torch.no_grad():
            y = tracked(x)
        print(without.__name__, without(x), inferred(x).requires_grad, y)
        y.sum().backward()
        return x.grad, without(x), without(x)

    assert_same(program)


def test_a_context_ends_with_an_exception_in_it() -> None:
    def program(torch: Any) -> Any:
        x = y = torch.ones(2, requires_grad=True)
        try:
            with torch.no_grad():
                y = x * 2
                raise KeyError("on purpose")
        except KeyError:
            pass
        return y.requires_grad, (x * 2).requires_grad, torch.is_grad_enabled()

    assert_same(program)


def test_detached_tensors_share_elements_but_no_graph() -> None:
    def program(torch: Any) -> Any:
        x = torch.ones(3, requires_grad=True)
        y = (x * 2).detach()
        z = x.detach()
        z[0] = 5
        (x * y).sum().backward()
        print(x, y, z, x.clone())
        return x.grad, y.requires_grad, z

    assert_same(program)


def test_requires_grad_can_be_switched() -> None:
    def program(torch: Any) -> Any:
        x = torch.ones(3)
        x.requires_grad_()
        (x * 2).sum().backward()
        grad = x.grad.clone()
        x.requires_grad = False
        print(x, x.requires_grad)
        x.requires_grad_(True)
        return grad, x.requires_grad, x.requires_grad_(False).requires_grad

    assert_same(program)


def test_parameters_can_be_updated_by_hand() -> None:
    def program(torch: Any) -> Any:
        model = torch.nn.Linear(3, 1)
        x, y = torch.randn(8, 3), torch.randn(8, 1)
        losses = []
        for step in range(6):
            loss = ((model(x) - y) ** 2).mean()
            model.zero_grad()
            loss.backward()
            if step % 2:
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter -= 0.1 * parameter.grad
            else:
                for parameter in model.parameters():
                    parameter.data -= 0.1 * parameter.grad.data
            losses.append(loss.item())
        model.weight.data.clamp_(-0.1, 0.1)
        model.bias.data = torch.tensor([0.5])
        model.weight.data[0, 0] = 9.0
        return losses, model.weight, model.bias

    assert_same(program)


def test_changing_a_leaf_in_place_is_refused() -> None:
    def program(torch: Any) -> None:
        x = torch.ones(2, requires_grad=True)
        x += 1
        print(x)

    assert_raises_the_same(program)


def test_retain_grad_keeps_gradients_of_intermediate_values() -> None:
    def program(torch: Any) -> Any:
        x = torch.randn(3, requires_grad=True)
        y = x.exp()
        y.retain_grad()
        (y * y).sum().backward()
        return x.grad, y.grad

    assert_same(program)


def test_gradient_penalty_differentiates_twice() -> None:
    def program(torch: Any) -> Any:
        critic = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        x = torch.randn(5, 2, requires_grad=True)
        scores = critic(x)
        (gradients,) = torch.autograd.grad(
            scores, x, grad_outputs=torch.ones_like(scores), create_graph=True
        )
        penalty = ((gradients.norm(2, dim=1) - 1) ** 2).mean()
        penalty.backward()
        return penalty, [parameter.grad for parameter in critic.parameters()]

    assert_same(program)
