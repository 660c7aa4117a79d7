import torch
import torch.nn as nn

# Define a simple neural network class by inheriting from nn.Module
class SimpleNeuralNet(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        # Call the constructor of nn.Module to initialize the base class
        super(SimpleNeuralNet, self).__init__()

        # Define the hidden layer
        # nn.Linear is a fully connected layer that applies a linear transformation
        # This layer takes 'input_size' features and maps them to 'hidden_size' outputs (neurons)
        self.hidden = nn.Linear(input_size, hidden_size)

        # Define the output layer
        # This layer takes 'hidden_size' inputs from the hidden layer and maps them to 'output_size' outputs
        # Typically, 'output_size' is the number of predictions you want to make (e.g., for regression or classification)
        self.output = nn.Linear(hidden_size, output_size)

    # Define the forward pass, which describes how data moves through the network
    def forward(self, x):
        # Pass the input 'x' through the hidden layer
        # This step applies a linear transformation: y = xW + b, where W is the weight matrix and b is the bias
        x = self.hidden(x)

        # Apply the ReLU activation function to introduce non-linearity
        # ReLU sets any negative values to zero, helping the model learn more complex patterns
        x = torch.relu(x)

        # Pass the result through the output layer to produce the final output
        # No activation function is applied here, as this is a simple regression model or an unactivated output
        x = self.output(x)

        # Return the final output of the network
        return x
