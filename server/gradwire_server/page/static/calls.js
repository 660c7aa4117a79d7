// Calls of the server's RPCs, in JSON. The token is kept in this tab and goes with every call.

const TOKEN_KEY = "gradwire-token";
const RETRY_MILLISECONDS = 2000;

// A call that failed. `code` is the name of its gRPC status, or "UNREACHABLE".
export class CallError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export function setToken(token) {
  if (token) {
    sessionStorage.setItem(TOKEN_KEY, token);
  } else {
    sessionStorage.removeItem(TOKEN_KEY);
  }
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN_KEY) !== null;
}

async function post(method, request, signal) {
  const headers = { "content-type": "application/json" };
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) {
    headers.authorization = `Bearer ${token}`;
  }
  let response;
  try {
    response = await fetch(`rpc/${method}`, {
      method: "POST",
      headers,
      body: JSON.stringify(request),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new CallError("UNREACHABLE", "The server cannot be reached.");
  }
  if (!response.ok) {
    const failure = await response.json().catch(() => ({}));
    throw new CallError(failure.code ?? "UNKNOWN", failure.message ?? response.statusText);
  }
  return response;
}

// Returns the response of a unary RPC, such as "SessionService/ListSessions".
export async function call(method, request = {}) {
  return (await post(method, request)).json();
}

// Yields the responses of a streaming RPC: lines of JSON.
async function* stream(method, request, signal) {
  const response = await post(method, request, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      yield JSON.parse(line);
    }
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Calls `onEvent` for each event of a run, from the first to the last, across broken connections.
export async function followRun(name, onEvent, signal) {
  let next = 1;
  while (!signal.aborted) {
    try {
      for await (const { event } of stream(
        "RunService/WatchRun",
        { name, fromEvent: next },
        signal,
      )) {
        next = Number(event.number) + 1;
        onEvent(event);
        if (event.ended) {
          return;
        }
      }
    } catch (error) {
      if (signal.aborted || error.code === "NOT_FOUND" || error.code === "UNAUTHENTICATED") {
        return;
      }
    }
    await pause(RETRY_MILLISECONDS);
  }
}
