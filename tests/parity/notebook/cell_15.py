import torch
import torch.nn as nn
import torch.nn.init as init  # Import initialization methods

# Define a simple neural network class
class SimpleNeuralNet(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        # Initialize the nn.Module parent class
        super(SimpleNeuralNet, self).__init__()

        # Define the hidden and output layers
        # Hidden layer: Maps 'input_size' features to 'hidden_size' neurons
        self.hidden = nn.Linear(input_size, hidden_size)

        # Output layer: Maps 'hidden_size' neurons to 'output_size' outputs
        self.output = nn.Linear(hidden_size, output_size)

        # Define ReLU activation function for the hidden layer
        self.relu = nn.ReLU()

        # Step 1: Custom weight initialization for the hidden layer
        # Xavier initialization is often used for layers with ReLU activation
        # It helps the network start with weights that have a good scale for training
        init.xavier_uniform_(self.hidden.weight)

        # Step 2: Initialize the biases of the output layer to zero
        # This ensures that the initial bias term starts at zero
        init.zeros_(self.output.bias)

    # Define the forward pass through the network
    def forward(self, x):
        # Step 3: Pass input through the hidden layer
        x = self.hidden(x)

        # Step 4: Apply ReLU activation to the hidden layer output
        x = self.relu(x)

        # Step 5: Pass the result through the output layer
        x = self.output(x)

        # Step 6: Return the final output
        return x
