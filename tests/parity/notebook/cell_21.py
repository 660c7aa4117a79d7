import torch
import torch.nn as nn
import torch.optim as optim

# Define a simple neural network with one hidden layer and one output layer
class SimpleNeuralNet(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(SimpleNeuralNet, self).__init__()

        # Hidden layer (fully connected)
        self.hidden = nn.Linear(input_size, hidden_size)

        # Output layer (fully connected)
        self.output = nn.Linear(hidden_size, output_size)

    # Define the forward pass through the network
    def forward(self, x):
        # Pass the input through the hidden layer
        print(f"Input to hidden layer:\n{x}")
        x = self.hidden(x)
        print(f"Output of hidden layer (before activation):\n{x}")

        # Apply ReLU activation to the hidden layer output
        x = torch.relu(x)
        print(f"Output of hidden layer (after ReLU activation):\n{x}")

        # Pass through the output layer (logits, no activation here)
        x = self.output(x)
        print(f"Output of final layer (logits, before softmax):\n{x}")

        return x

# Instantiate the model with:
# - 10 input features
# - 5 neurons in the hidden layer
# - 3 output neurons (corresponding to 3 classes for classification)
model = SimpleNeuralNet(input_size=10, hidden_size=5, output_size=3)
print("\nInitialized model:\n", model)

# Define the Adam optimizer and CrossEntropyLoss (for classification)
optimizer = optim.Adam(model.parameters(), lr=0.001)
criterion = nn.CrossEntropyLoss()

# Training loop over 10 epochs
for epoch in range(10):
    print(f"\nEpoch {epoch + 1}/100")  # Print current epoch

    # Generate a random input tensor (1 sample, 10 features)
    input_data = torch.randn(1, 10)
    print(f"\nRandom input data (1 sample, 10 features):\n{input_data}")

    # Define the target as class 1 (ground truth)
    target = torch.tensor([1])
    print(f"\nTarget class index (ground truth):\n{target}")

    # Forward pass: Get model's output (logits) for this random input
    output = model(input_data)

    # Compute the loss between the model's output and the true target
    loss = criterion(output, target)
    print(f"\nLoss value (Cross-Entropy Loss): {loss.item()}")

    # Backward pass and optimization
    optimizer.zero_grad()  # Clear gradients from previous epoch
    print("\nGradients cleared.")

    loss.backward()  # Backpropagate the loss to compute gradients
    print("Gradients after backward pass:")
    for name, param in model.named_parameters():
        if param.grad is not None:
            print(f"{name}.grad:\n{param.grad}")

    optimizer.step()  # Update the model weights based on gradients
    print("\nUpdated model parameters after optimizer step:")
    for name, param in model.named_parameters():
        print(f"{name}:\n{param}")

    # Print loss every 10 epochs for monitoring
    if epoch % 10 == 0:
        print(f"\n[Epoch {epoch}] Loss: {loss.item()}\n" + "="*50)

    print(f"END OF EPOCH No: {epoch}\n\n\n")
