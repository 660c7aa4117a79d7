"""``torch.utils.checkpoint``, whose results are those without it."""

from tests.parity.programs import attempt


def a_checkpointed_block_trains_as_any_other(torch):
    checkpoint = __import__(f"{torch.__name__}.utils.checkpoint", fromlist=["checkpoint"])
    nn = torch.nn
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5))
    second = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    x, y = torch.randn(6, 4), torch.randn(6, 1)
    for _ in range(4):
        hidden = checkpoint.checkpoint(first, x, use_reentrant=False)
        output = checkpoint.checkpoint_sequential(second, 2, hidden, use_reentrant=False)
        loss = nn.functional.mse_loss(output, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item(), first[0].weight.grad.sum().item())
    print(checkpoint.checkpoint(lambda a, *, b: a * b, x[0], b=2, use_reentrant=False))
    attempt(lambda: checkpoint.checkpoint_sequential(second, 2, x, nonsense=True))
