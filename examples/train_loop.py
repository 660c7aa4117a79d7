"""The loop of torch, on a server: fits a line's worth of points with two layers.

Only the imports tell this script from one for local torch, and it prints the same:

    python examples/train_loop.py
    GRADWIRE_ADDRESS=gpu-box:50051 python examples/train_loop.py
"""

import gradwire as torch
from gradwire import nn, optim

torch.manual_seed(0)

inputs = torch.randn(256, 3)
targets = (inputs**2).sum(dim=1, keepdim=True)

model = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=0.01)
print(model)

for step in range(1, 501):
    optimizer.zero_grad()
    loss = criterion(model(inputs), targets)
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step}: loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(model(torch.tensor([[1.0, 2.0, 0.5]])))
