import torch
import torch.nn as nn
import torch.optim as optim

# Define a simple neural network class with one hidden layer.
class SimpleNN(nn.Module):
    def __init__(self):
        super(SimpleNN, self).__init__()  # Call the base class constructor

        # Step 1: Define the layers.
        # Hidden layer: Input features (3), Output features (5).
        self.hidden = nn.Linear(3, 5)  # Fully connected layer: input size=3, output size=5

        # Output layer: Input features (5 from the hidden layer), Output features (1).
        self.output = nn.Linear(5, 1)  # Fully connected layer: input size=5, output size=1

    # Define the forward pass, which describes how the data flows through the network.
    def forward(self, x):
        # Apply the hidden layer, followed by ReLU activation
        x = self.hidden(x)
        print(f"After hidden layer (raw output): {x}")  # Print the raw output from the hidden layer

        x = torch.relu(x)  # Apply ReLU non-linearity
        print(f"After ReLU activation: {x}")  # Print the output after ReLU activation

        # Pass to the output layer (no activation for regression)
        x = self.output(x)
        print(f"Final output (before returning): {x}")  # Print the final output before returning
        return x  # Return the final output value

# Step 4: Initialize the model by creating an instance of the SimpleNN class.
model = SimpleNN()
print("Model initialized. Here's the model structure:")
print(model)  # Print the model architecture for better understanding

# Step 5: Define a sample input tensor (2 samples, 3 features each).
input_data = torch.tensor([[0.5, -1.2, 3.0], [0.8, 0.3, -0.7]])
print(f"Input data:\n{input_data}")  # Print the input data for clarity

# Step 6: Perform a forward pass through the model and store the result in 'output'.
output = model(input_data)

# Step 7: Print the output, which contains the model's predictions for the input batch.
print(f"Predicted output:\n{output}")  # Output: predicted values for the input batch
