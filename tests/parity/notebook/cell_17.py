import torch
import torch.nn as nn

# Define a simple neural network with one hidden layer
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

        # Pass through the output layer (no activation function at this stage because
        # we'll use CrossEntropyLoss, which includes Softmax internally)
        x = self.output(x)
        print(f"Output of final layer (logits, before softmax):\n{x}")

        # Return the final output (logits)
        return x

# Instantiate the model with:
# - 10 input features
# - 5 neurons in the hidden layer
# - 3 output neurons (corresponding to 3 classes for classification)
model = SimpleNeuralNet(input_size=10, hidden_size=5, output_size=3)
print("Initialized model:\n", model)

# Define the loss function (Cross-Entropy Loss) for classification
# CrossEntropyLoss combines LogSoftmax and NLLLoss, which is suitable for multi-class classification
criterion = nn.CrossEntropyLoss()

# Generate a random input tensor representing one sample with 10 features
input_data = torch.randn(1, 10)  # Perform a forward pass through the model
print(f"\nRandom input data (1 sample, 10 features):\n{input_data}")

# Forward pass: Get the model's output (logits) for this random input
output = model(input_data)

# Define the target as class 1 (the ground truth for the classification task)
# Note that target should contain class indices, not one-hot encoded vectors
target = torch.tensor([1])  # This means the correct class for the input is class 1
print(f"\nTarget class index:\n{target}")

# Calculate the loss between the model's prediction (logits) and the true target
loss = criterion(output, target)
print(f"\nLoss value (Cross-Entropy Loss):\n{loss.item()}")
