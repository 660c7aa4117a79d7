# Step 2: Initialize the network, loss function, and optimizer
model = SimpleNN()
criterion = nn.MSELoss()  # Mean Squared Error Loss for regression
optimizer = optim.SGD(model.parameters(), lr=0.01)  # Stochastic Gradient Descent

# Step 3: Define input data and target (for supervised learning)
input_data = torch.tensor([[0.5, -1.2, 3.0], [0.8, 0.3, -0.7]], requires_grad=True)  # Input features
target = torch.tensor([[1.0], [2.0]])  # Actual target values

# Step 4: Perform Forward Propagation
output = model(input_data)
print("Predicted output before training:")
print(output)  # Predicted output before training (random weights, so the output won't match the target)

# Step 5: Calculate the loss (difference between predicted and target)
loss = criterion(output, target)
print("\nLoss before backpropagation:")
print(loss)

# Step 6: Perform Backward Propagation
optimizer.zero_grad()  # Zero out previous gradients (important step)
loss.backward()  # Compute gradients using backpropagation

# Step 7: Print gradients before updating
print("\nGradients before optimization step:")
for name, param in model.named_parameters():
    if param.requires_grad:
        print(f"{name}.grad: {param.grad}")

# Step 8: Perform optimization step to update model parameters
optimizer.step()  # Update model weights using the computed gradients

# Step 9: Perform another forward pass after the parameters have been updated
output_after = model(input_data)
print("\nPredicted output after one optimization step:")
print(output_after)

# Step 10: Recalculate the loss after the update
loss_after = criterion(output_after, target)
print("\nLoss after one optimization step:")
print(loss_after)
