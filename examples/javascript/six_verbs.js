// The six verbs as plain calls, from the .proto files alone; they are loaded at run time.
//
// Fits a small net to 64 points of a curve: the verbs one by one in a loop of our own, then Train.
//
//     gradwire serve &
//     npm install && node six_verbs.js 127.0.0.1:50051
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

// A float32 tensor of shape [n, 1].
function column(numbers) {
  const data = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, i) => data.writeFloatLE(number, 4 * i));
  return { tensor: { dtype: "DATA_TYPE_FLOAT32", shape: [numbers.length, 1], data } };
}

// The number in a float32 tensor of one element.
function scalar(value) {
  return value.tensor.data.readFloatLE(0);
}

function linear(inputs, outputs) {
  return { type: "torch.nn.Linear", args: [{ intValue: inputs }, { intValue: outputs }] };
}

// A net with one hidden layer; its session is made with it.
function build() {
  const layers = [linear(1, 16), { type: "torch.nn.Tanh" }, linear(16, 1)];
  return {
    module: {
      type: "torch.nn.Sequential",
      children: layers.map((module, index) => ({ name: String(index), module })),
    },
    optimizer: { type: "torch.optim.Adam", kwargs: { lr: { floatValue: 0.05 } } },
    seed: 0,
  };
}

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

  const created = await call(models, "CreateModel", build());
  const model = created.model.name;
  const session = model.split("/models/")[0];
  console.log(created.model.summary);
  console.log(`${created.model.numParameters} parameters, ${created.model.optimizer}`);

  const mse = { catalog: { type: "torch.nn.MSELoss" } };
  const inputs = column(INPUTS);
  const targets = column(TARGETS);
  for (let step = 1; step <= 100; step++) {
    const forward = await call(models, "Forward", {
      name: model,
      inputs: [inputs],
      handlesOnly: true,
    });
    const output = forward.output.handle;
    const computed = await call(models, "ComputeLoss", {
      name: session,
      loss: mse,
      outputs: [{ handle: output }],
      targets: [targets],
    });
    const loss = computed.loss.handle;
    await call(models, "ZeroGrad", { name: model });
    await call(models, "Backward", { name: session, handle: loss });
    // With a requestId, a retry after a lost answer does not step twice.
    const stepped = await call(models, "Step", { name: model, requestId: `step-${step}` });
    // Values stay on the server until they are released.
    await call(sessions, "ReleaseValues", { name: session, handles: [output, loss] });
    if (step % 20 === 0) {
      console.log(`step ${stepped.numSteps}: loss ${scalar(computed.loss.value).toFixed(6)}`);
    }
  }

  // The same, but with the loop on the server too: one call instead of six a step.
  const events = runs.Train(
    {
      name: model,
      inputs: [inputs],
      targets: [targets],
      loss: mse,
      epochs: 100,
      batchSize: 16,
      shuffle: true,
      seed: 0,
    },
    metadata,
  );
  for await (const { event } of events) {
    if (event.started) {
      console.log(`training on ${event.started.device}`);
    }
    if (event.ended) {
      const { numSteps, meanLoss } = event.ended;
      console.log(`${numSteps} more steps: mean loss ${meanLoss.toFixed(6)}`);
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
