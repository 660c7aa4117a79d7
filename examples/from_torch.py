"""Hands a network written in plain torch to the server, trains it there, and takes it back.

Needs torch here, too. `GRADWIRE_ADDRESS` names a server elsewhere.
"""

import copy

import torch
from torch import nn
from torch.nn import functional

import gradwire

NUM_STEPS = 30


class Block(nn.Module):
    """Two convolutions, batch norms, and a way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns feature maps of the same shape."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(y)))


def make_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        Block(8),
        Block(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8, 2),
    )


def make_data() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns noisy 8 by 8 pictures of horizontal (0) and vertical (1) bars."""
    labels = torch.randint(0, 2, (64,))
    bars = torch.zeros(64, 8, 8)
    for picture, label, at in zip(bars, labels, torch.randint(0, 8, (64,)), strict=True):
        (picture.t() if label else picture)[at] = 1
    return (bars + 0.2 * torch.randn(64, 8, 8)).unsqueeze(1), labels


def main() -> None:
    torch.manual_seed(0)
    net = make_net()
    pictures, labels = make_data()
    local_net = copy.deepcopy(net)

    model = gradwire.from_torch(net, pictures[:4])
    inputs, targets = gradwire.tensor(pictures), gradwire.tensor(labels)
    gradwire.manual_seed(1)
    optimizer = gradwire.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(NUM_STEPS):
        optimizer.zero_grad()
        loss = gradwire.nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step:2}  loss {loss.item():.4f}")
    gradwire.to_torch(model)

    torch.manual_seed(1)
    local_optimizer = torch.optim.AdamW(local_net.parameters(), lr=0.01)
    for _ in range(NUM_STEPS):
        local_optimizer.zero_grad()
        functional.cross_entropy(local_net(pictures), labels).backward()
        local_optimizer.step()
    pairs = zip(net.state_dict().values(), local_net.state_dict().values(), strict=True)
    same = all(torch.equal(ours, local) for ours, local in pairs)
    print("weights as local torch trains them:", same)

    with torch.no_grad():
        accuracy = (net.eval()(pictures).argmax(1) == labels).float().mean().item()
    print(f"accuracy of the net in torch: {accuracy:.0%}")


if __name__ == "__main__":
    main()
