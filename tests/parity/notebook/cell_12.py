import torch
import torch.nn as nn
import torch.optim as optim

# Initialize the model, loss function (criterion), and optimizer
# Assuming the model is already defined as `SimpleNN`
# `nn.MSELoss()` is used for regression tasks to calculate the mean squared error
# `optim.SGD()` is the optimizer used to update model weights using stochastic gradient descent
# These components are necessary for training a neural network.

# model = SimpleNN()  # Already defined model
# criterion = nn.MSELoss()  # Mean Squared Error Loss for regression
# optimizer = optim.SGD(model.parameters(), lr=0.01)  # SGD optimizer with learning rate of 0.01

# Training data: A batch of inputs (2 samples, each with 3 features)
# This tensor represents two samples with 3 features each. 'requires_grad=True' ensures
# that we can calculate gradients with respect to this input during training.
input_data = torch.tensor([[0.5, -1.2, 3.0], [0.8, 0.3, -0.7]], requires_grad=True)

# Corresponding target values for regression.
# These are the expected (target) output values that the model should predict during training.
target = torch.tensor([[1.0], [0.5]])

# Set the number of epochs (iterations).
# This specifies how many times the training loop will run, updating the model weights after each iteration.
epochs = 10

# Training loop: This loop will train the model for a specified number of epochs (iterations).
for epoch in range(epochs):
    print(f"Epoch {epoch + 1}/{epochs}")  # Print the current epoch number for tracking progress

    # Forward pass: Make predictions based on the current state of the model.
    # Here, the input_data is passed through the model to compute the predictions.
    prediction = model(input_data)
    print(f"Predicted output:\n{prediction}")  # Display the predictions for this epoch

    # Calculate the loss: This measures how far off the model's predictions are from the target values.
    # The loss function compares the predicted values with the actual target values.
    loss = criterion(prediction, target)
    print(f"Loss: {loss.item():.4f}")  # Print the current loss value (error)

    # Zero the gradients: Before the backward pass, we need to clear the gradients from the previous iteration.
    # Gradients accumulate by default, so we must zero them out before the next iteration.
    optimizer.zero_grad()

    # Backward pass: Calculate the gradients of the loss with respect to the model's parameters.
    # This step computes how each parameter (weights and biases) should change to minimize the loss.
    loss.backward()

    # Print gradients after the backward pass.
    # We loop through each parameter and print its gradient values. These gradients show the direction
    # and magnitude of change needed for each weight to reduce the loss.
    print("Gradients after backward pass:")
    for name, param in model.named_parameters():
        if param.grad is not None:
            print(f"{name}.grad:\n{param.grad}")  # Print gradients of weights and biases

    # Update model weights: The optimizer updates the model's weights using the computed gradients.
    # This step modifies the parameters based on the gradients and the learning rate (0.01 in this case).
    optimizer.step()

    # Print updated model parameters (weights and biases).
    # After each optimization step, we print the new parameter values to see how they change after every epoch.
    print("Updated model parameters:")
    for name, param in model.named_parameters():
        print(f"{name}:\n{param}")

    # Print a separator line for better readability between epochs.
    print("-" * 50)
