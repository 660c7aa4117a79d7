"""The six verbs as plain calls: what a program in any language does with the .proto files alone.

Fits a small net to 64 points of a curve: the verbs one by one in a loop of our own, then Train.
Needs grpcio, the generated stubs and a running server, but neither the SDK nor torch:

    gradwire serve &
    python examples/six_verbs.py 127.0.0.1:50051

The address may also come from GRADWIRE_ADDRESS; the server's token, if any, from GRADWIRE_TOKEN.
"""

import math
import os
import struct
import sys

import grpc

from gradwire.v1 import (
    models_pb2,
    models_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    values_pb2,
)

NUM_POINTS = 64
INPUTS = [-1 + 2 * i / (NUM_POINTS - 1) for i in range(NUM_POINTS)]
TARGETS = [math.sin(3 * x) for x in INPUTS]


def integer(value: int) -> values_pb2.Value:
    return values_pb2.Value(int_value=value)


def column(numbers: list[float]) -> values_pb2.Value:
    """Returns a float32 tensor of shape [n, 1]."""
    return values_pb2.Value(
        tensor=values_pb2.Tensor(
            dtype=values_pb2.DATA_TYPE_FLOAT32,
            shape=[len(numbers), 1],
            data=struct.pack(f"<{len(numbers)}f", *numbers),
        )
    )


def scalar(value: values_pb2.Value) -> float:
    """Returns the number in a float32 tensor of one element."""
    (number,) = struct.unpack("<f", value.tensor.data)
    return float(number)


def linear(inputs: int, outputs: int) -> models_pb2.ModuleSpec:
    return models_pb2.ModuleSpec(type="torch.nn.Linear", args=[integer(inputs), integer(outputs)])


def build() -> models_pb2.CreateModelRequest:
    """Returns a request for a net with one hidden layer; its session is made with it."""
    layers = [linear(1, 16), models_pb2.ModuleSpec(type="torch.nn.Tanh"), linear(16, 1)]
    return models_pb2.CreateModelRequest(
        module=models_pb2.ModuleSpec(
            type="torch.nn.Sequential",
            children=[
                models_pb2.ChildModule(name=str(index), module=layer)
                for index, layer in enumerate(layers)
            ],
        ),
        optimizer=models_pb2.OptimizerSpec(
            type="torch.optim.Adam", kwargs={"lr": values_pb2.Value(float_value=0.05)}
        ),
        seed=0,
    )


def main() -> None:
    default = os.environ.get("GRADWIRE_ADDRESS", "127.0.0.1:50051")
    address = sys.argv[1] if len(sys.argv) > 1 else default
    token = os.environ.get("GRADWIRE_TOKEN")
    metadata = [("authorization", f"Bearer {token}")] if token else []

    with grpc.insecure_channel(address) as channel:
        models = models_pb2_grpc.ModelServiceStub(channel)
        runs = runs_pb2_grpc.RunServiceStub(channel)
        sessions = sessions_pb2_grpc.SessionServiceStub(channel)

        created = models.CreateModel(build(), metadata=metadata)
        model = created.model.name
        session = model.partition("/models/")[0]
        print(created.model.summary)
        print(f"{created.model.num_parameters} parameters, {created.model.optimizer}")

        mse = models_pb2.LossSpec(catalog=models_pb2.CatalogLoss(type="torch.nn.MSELoss"))
        inputs, targets = column(INPUTS), column(TARGETS)
        for step in range(1, 101):
            forward = models.Forward(
                models_pb2.ForwardRequest(name=model, inputs=[inputs], handles_only=True),
                metadata=metadata,
            )
            output = forward.output.handle
            computed = models.ComputeLoss(
                models_pb2.ComputeLossRequest(
                    name=session,
                    loss=mse,
                    outputs=[values_pb2.Value(handle=output)],
                    targets=[targets],
                ),
                metadata=metadata,
            )
            loss = computed.loss.handle
            models.ZeroGrad(models_pb2.ZeroGradRequest(name=model), metadata=metadata)
            models.Backward(
                models_pb2.BackwardRequest(name=session, handle=loss), metadata=metadata
            )
            # With a request_id, a retry after a lost answer does not step twice.
            stepped = models.Step(
                models_pb2.StepRequest(name=model, request_id=f"step-{step}"), metadata=metadata
            )
            # Values stay on the server until they are released.
            sessions.ReleaseValues(
                sessions_pb2.ReleaseValuesRequest(name=session, handles=[output, loss]),
                metadata=metadata,
            )
            if step % 20 == 0:
                print(f"step {stepped.num_steps}: loss {scalar(computed.loss.value):.6f}")

        # The same, but with the loop on the server too: one call instead of six a step.
        for response in runs.Train(
            runs_pb2.TrainRequest(
                name=model,
                inputs=[inputs],
                targets=[targets],
                loss=mse,
                epochs=100,
                batch_size=16,
                shuffle=True,
                seed=0,
            ),
            metadata=metadata,
        ):
            event = response.event
            if event.HasField("started"):
                print(f"training on {event.started.device}")
            if event.HasField("ended"):
                ended = event.ended
                print(f"{ended.num_steps} more steps: mean loss {ended.mean_loss:.6f}")

        sessions.DeleteSession(sessions_pb2.DeleteSessionRequest(name=session), metadata=metadata)


if __name__ == "__main__":
    main()
