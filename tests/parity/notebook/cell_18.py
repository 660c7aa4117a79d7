# Step 1: Zero the gradients from the previous backward pass
optimizer.zero_grad()

# Step 2: Perform backpropagation to compute the gradients
loss.backward()

# Step 3: Update the model parameters using the optimizer
optimizer.step()

# Print the updated model parameters after optimization
print("Updated model parameters:")
for name, param in model.named_parameters():
    print(f"{name}:\n{param}")
