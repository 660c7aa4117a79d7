import torch
import torch.nn as nn

# Define a simple neural network class that inherits from nn.Module
class SimpleNeuralNet(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(SimpleNeuralNet, self).__init__()

        # Step 1: Define the hidden layer
        # The hidden layer is a fully connected (dense) layer that takes 'input_size' features
        # and outputs 'hidden_size' neurons.
        self.hidden = nn.Linear(input_size, hidden_size)

        # Step 2: Define the output layer
        # The output layer is a fully connected layer that takes 'hidden_size' outputs from the hidden layer
        # and produces 'output_size' outputs. These could be the class probabilities (for classification) or
        # raw values (for regression).
        self.output = nn.Linear(hidden_size, output_size)

        # Step 3: Define the activation functions
        # ReLU (Rectified Linear Unit) is used for the hidden layer to introduce non-linearity.
        # It replaces negative values with zero and keeps positive values unchanged.
        self.relu = nn.ReLU()

        # Softmax is used for the output layer, typically in classification tasks.
        # Softmax converts the output scores into probabilities that sum to 1 across the given dimension.
        # 'dim=1' means the softmax will be applied across the second dimension (rows) of the output tensor.
        self.softmax = nn.Softmax(dim=1)

    # Define the forward pass, which describes how the input data flows through the layers
    def forward(self, x):
        # Step 4: Pass the input through the hidden layer
        x = self.hidden(x)  # Linear transformation: xW + b

        # Step 5: Apply the ReLU activation function to the hidden layer output
        x = self.relu(x)  # Apply ReLU non-linearity

        # Step 6: Pass the result through the output layer
        x = self.output(x)  # Linear transformation: xW' + b'

        # Step 7: Apply the Softmax activation function to the output layer's result
        # Softmax is often used in classification to output probabilities for each class.
        x = self.softmax(x)

        # Step 8: Return the final output of the network
        return x
