"""Losses, their gradients, and losses that users write."""

from typing import Any

import pytest

from tests.parity.comparing import assert_same

LOSSES: dict[str, Any] = {
    "MSELoss": lambda torch: (torch.randn(4, 3), torch.randn(4, 3)),
    "CrossEntropyLoss": lambda torch: (torch.randn(4, 3), torch.tensor([0, 2, 1, 1])),
    "BCELoss": lambda torch: (torch.rand(4, 3), torch.rand(4, 3)),
    "BCEWithLogitsLoss": lambda torch: (torch.randn(4, 3), torch.rand(4, 3)),
    "L1Loss": lambda torch: (torch.randn(4, 3), torch.randn(4, 3)),
    "HingeEmbeddingLoss": lambda torch: (
        *(torch.randn(4, 3), torch.tensor([[1.0, -1.0, 1.0]] * 4)),
    ),
    "MarginRankingLoss": lambda torch: (
        *(torch.randn(4), torch.randn(4), torch.tensor([1.0, -1.0, 1.0, -1.0])),
    ),
    "KLDivLoss": lambda torch: (
        torch.log_softmax(torch.randn(4, 3), dim=1),
        torch.softmax(torch.randn(4, 3), dim=1),
    ),
    "SmoothL1Loss": lambda torch: (torch.randn(4, 3), torch.randn(4, 3)),
    "NLLLoss": lambda torch: (
        *(torch.log_softmax(torch.randn(4, 3), dim=1), torch.tensor([2, 0, 1, 1])),
    ),
}
"""The ten losses that the notebook lists, each with arguments for it."""

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "MSELoss": [{"reduction": "sum"}, {"reduction": "none"}],
    "CrossEntropyLoss": [{"label_smoothing": 0.1}, {"ignore_index": 1}, {"reduction": "none"}],
    "BCEWithLogitsLoss": [{"reduction": "sum"}],
    "KLDivLoss": [{"reduction": "batchmean"}],
    "SmoothL1Loss": [{"beta": 0.5}],
    "MarginRankingLoss": [{"margin": 0.5}],
}
CASES = [(name, options) for name in LOSSES for options in [{}, *OPTIONS.get(name, [])]]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_loss_and_its_gradient_are_those_of_torch(name: str, options: dict[str, Any]) -> None:
    def program(torch: Any) -> Any:
        outputs, *others = LOSSES[name](torch)
        outputs = outputs.detach().requires_grad_()
        criterion = getattr(torch.nn, name)(**options)
        loss = criterion(outputs, *others)
        loss.sum().backward()
        print(criterion, loss)
        return loss, outputs.grad

    assert_same(program)


def test_class_weights_are_taken_into_account() -> None:
    def program(torch: Any) -> Any:
        logits = torch.randn(4, 3, requires_grad=True)
        weight = torch.tensor([0.1, 2.0, 1.0])
        loss = torch.nn.CrossEntropyLoss(weight=weight)(logits, torch.tensor([0, 1, 2, 1]))
        loss.backward()
        return loss, logits.grad

    assert_same(program)


def test_a_loss_may_be_a_function_in_python() -> None:
    def program(torch: Any) -> Any:
        def loss_of(outputs: Any, targets: Any, delta: float = 0.7) -> Any:
            error = (outputs - targets).abs()
            quadratic = torch.minimum(error, torch.tensor(delta))
            return (0.5 * quadratic**2 + delta * (error - quadratic)).mean()

        outputs = torch.randn(6, 2, requires_grad=True)
        loss = loss_of(outputs, torch.randn(6, 2))
        loss.backward()
        return loss.item(), outputs.grad

    assert_same(program)


def test_a_loss_may_be_a_module_of_the_users_own() -> None:
    def program(torch: Any) -> Any:
        class FocalLoss(torch.nn.Module):  # type: ignore[misc]
            def __init__(self, gamma: float) -> None:
                super().__init__()
                self.gamma = gamma

            def forward(self, logits: Any, target: Any) -> Any:
                log_p = torch.nn.functional.log_softmax(logits, dim=-1)
                picked = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
                return (-((1 - picked.exp()) ** self.gamma) * picked).mean()

        logits = torch.randn(5, 3, requires_grad=True)
        criterion = FocalLoss(gamma=2.0)
        loss = criterion(logits, torch.tensor([0, 1, 2, 2, 1]))
        loss.backward()
        print(criterion, f"{loss:.6f}")
        return loss, logits.grad

    assert_same(program)
