// A model, a loss and initial values of one's own, written by hand: docs/protocol.md as a program.
//
// Fits a small net to 64 points of a curve. Its forward, its loss and its initial values are
// programs: lists of operations, each a name of torch with arguments.
//
//     gradwire serve &
//     npm install && node own_model.js 127.0.0.1:50051
//
// The address may also come from GRADWIRE_ADDRESS; the server's token, if any, from GRADWIRE_TOKEN.

import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const FILES = ["models", "runs", "sessions"].map((name) => `gradwire/v1/${name}.proto`);

// Handles are 64-bit integers, which JavaScript's numbers cannot hold; they travel as strings.
const definition = protoLoader.loadSync(FILES, { includeDirs: [PROTOS], longs: String, oneofs: true });
const { ModelService, RunService, SessionService } =
  grpc.loadPackageDefinition(definition).gradwire.v1;

const NUM_POINTS = 64;
const INPUTS = Array.from({ length: NUM_POINTS }, (_, i) => -1 + (2 * i) / (NUM_POINTS - 1));
const TARGETS = INPUTS.map((x) => Math.sin(3 * x));

// A float32 tensor, row by row.
function tensor(numbers, shape) {
  const data = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, i) => data.writeFloatLE(number, 4 * i));
  return { tensor: { dtype: "DATA_TYPE_FLOAT32", shape, data } };
}

// The number in a float32 tensor of one element.
function scalar(value) {
  return value.tensor.data.readFloatLE(0);
}

// What arguments of operations may be.
const input = (index) => ({ input: index });
const result = (index) => ({ result: index });
const member = (path) => ({ member: path });
const number = (value) => ({ floatValue: value });

// A program: each operation is a name and its arguments; the last result is the output.
function program(numInputs, ...operations) {
  return {
    numInputs,
    operations: operations.map(([name, ...args]) => ({ name, args })),
    outputs: [result(operations.length - 1)],
  };
}

function linear(inputs, outputs) {
  return { type: "torch.nn.Linear", args: [{ intValue: inputs }, { intValue: outputs }] };
}

// Two layers, with a learned factor for each hidden unit between them.
const MODULE = {
  type: "torch.nn.Module",
  children: [
    { name: "hidden", module: linear(1, 16) },
    { name: "out", module: linear(16, 1) },
  ],
  tensors: [{ name: "scale", value: tensor(new Array(16).fill(1), [16]) }],
  // out(tanh(hidden(x)) * scale)
  forward: program(
    1,
    ["gradwire.call", member("hidden"), input(0)],
    ["torch.tanh", result(0)],
    ["torch.mul", result(1), member("scale")],
    ["gradwire.call", member("out"), result(2)],
  ),
  init: program(
    0,
    ["torch.nn.init.uniform_", member("hidden.weight"), number(-2), number(2)],
    ["torch.nn.init.zeros_", member("hidden.bias")],
    ["torch.nn.init.normal_", member("out.weight"), number(0), number(0.1)],
  ),
};

// mean(log(cosh(outputs - targets)))
const LOG_COSH = {
  program: program(
    2,
    ["torch.sub", input(0), input(1)],
    ["torch.cosh", result(0)],
    ["torch.log", result(1)],
    ["torch.mean", result(2)],
  ),
};

const address = process.argv[2] ?? process.env.GRADWIRE_ADDRESS ?? "127.0.0.1:50051";
const metadata = new grpc.Metadata();
if (process.env.GRADWIRE_TOKEN) {
  metadata.set("authorization", `Bearer ${process.env.GRADWIRE_TOKEN}`);
}

// Returns a promise of the response of a unary call.
function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, metadata, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

async function main() {
  const credentials = grpc.credentials.createInsecure();
  const models = new ModelService(address, credentials);
  const runs = new RunService(address, credentials);
  const sessions = new SessionService(address, credentials);

  const created = await call(models, "CreateModel", {
    module: MODULE,
    optimizer: { type: "torch.optim.Adam", kwargs: { lr: number(0.02) } },
    seed: 0,
  });
  const model = created.model.name;
  const session = model.split("/models/")[0];
  console.log(created.model.summary);

  const inputs = tensor(INPUTS, [NUM_POINTS, 1]);
  const targets = tensor(TARGETS, [NUM_POINTS, 1]);
  for (let step = 1; step <= 100; step++) {
    const { output } = await call(models, "Forward", {
      name: model,
      inputs: [inputs],
      handlesOnly: true,
    });
    const { loss } = await call(models, "ComputeLoss", {
      name: session,
      loss: LOG_COSH,
      outputs: [{ handle: output.handle }],
      targets: [targets],
    });
    await call(models, "ZeroGrad", { name: model });
    await call(models, "Backward", { name: session, handle: loss.handle });
    // With a requestId, a retry after a lost answer does not step twice.
    await call(models, "Step", { name: model, requestId: `step-${step}` });
    if (step % 20 === 0) {
      console.log(`step ${step}: loss ${scalar(loss.value).toFixed(6)}`);
    }
  }

  // The same, but with the loop on the server too.
  const events = runs.Train(
    { name: model, inputs: [inputs], targets: [targets], loss: LOG_COSH, epochs: 100, batchSize: 16 },
    metadata,
  );
  for await (const { event } of events) {
    if (event.ended) {
      console.log(`${event.ended.numSteps} more steps: loss ${event.ended.meanLoss.toFixed(6)}`);
    }
  }

  await call(sessions, "DeleteSession", { name: session });
  for (const client of [models, runs, sessions]) {
    client.close();
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
