import torch
import torch.nn as nn
import torch.optim as optim

# Define a simple neural network
class SimpleNeuralNet(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(SimpleNeuralNet, self).__init__()

        # Define the hidden layer (fully connected layer)
        self.hidden = nn.Linear(input_size, hidden_size)

        # Define the output layer (fully connected layer)
        self.output = nn.Linear(hidden_size, output_size)

    # Define the forward pass through the network
    def forward(self, x):
        # Pass the input through the hidden layer
        print(f"Input to hidden layer:\n{x}")
        x = self.hidden(x)
        print(f"Output of hidden layer (before activation):\n{x}")

        # Apply the ReLU activation function to introduce non-linearity
        x = torch.relu(x)
        print(f"Output of hidden layer (after ReLU activation):\n{x}")

        # Pass through the output layer (no activation here, raw logits)
        x = self.output(x)
        print(f"Output of final layer (logits, before softmax):\n{x}")

        # Return the final output (logits)
        return x

# Instantiate the model with:
# - 10 input features
# - 5 neurons in the hidden layer
# - 3 output neurons (for classification into 3 classes)
model = SimpleNeuralNet(input_size=10, hidden_size=5, output_size=3)
print("Initialized model:\n", model)

# Define an optimizer (Adam optimizer) to update the weights
# The learning rate is set to 0.001
optimizer = optim.Adam(model.parameters(), lr=0.001)

# Define the loss function (Cross-Entropy Loss) for classification
criterion = nn.CrossEntropyLoss()

# Generate a random input tensor (1 sample, 10 features)
input_data = torch.randn(1, 10)
print(f"\nRandom input data (1 sample, 10 features):\n{input_data}")

# Forward pass: Get the model's output (logits) for this random input
output = model(input_data)

# Define the target as class 1 (ground truth)
target = torch.tensor([1])  # The correct class is 1
print(f"\nTarget class index:\n{target}")

# Calculate the loss between the model's output (logits) and the true target
loss = criterion(output, target)
print(f"\nLoss value (Cross-Entropy Loss):\n{loss.item()}")

# Backward pass to compute gradients
optimizer.zero_grad()  # Clear the gradients before backpropagation
print("\nGradients cleared.")

# Backpropagate the loss to compute gradients of the weights
loss.backward()
print("Gradients after backward pass:")
for name, param in model.named_parameters():
    if param.grad is not None:
        print(f"{name}.grad:\n{param.grad}")

# Perform the optimizer step to update model weights
optimizer.step()
print("\nModel parameters updated after optimizer step:")
for name, param in model.named_parameters():
    print(f"{name}:\n{param}")
