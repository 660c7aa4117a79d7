// The page: signs in, asks for what there is every two seconds, and shows it.

import { CallError, call, hasToken, setToken } from "./calls.js";
import { LossChart } from "./chart.js";
import { byId, element, formatCount, formatMoment, formatRate, stateOf } from "./elements.js";
import { Runs, isRunning } from "./runs.js";

const INTERVAL_MILLISECONDS = 2000;
const PAGE_SIZE = 200;
const SIGN_IN_CODES = new Set(["UNAUTHENTICATED", "PERMISSION_DENIED"]);

const runs = new Runs(new LossChart());
const stepsSeen = { time: 0, byRun: new Map() };

function showState(text, className) {
  byId("state").textContent = text;
  byId("state").className = `badge ${className}`;
}

function showSignIn(message) {
  byId("dashboard").hidden = true;
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
  byId("sign-in-error").textContent = message;
  showState("signed out", "quiet");
  byId("token").focus();
}

function showTable(id, head, rows) {
  // What is the same stays, so that it can be selected and copied.
  const drawn = JSON.stringify(rows.map((row) => row.map((value) => value.textContent ?? value)));
  if (byId(id).dataset.drawn === drawn) {
    return;
  }
  byId(id).dataset.drawn = drawn;
  const cells = (tag, values) =>
    values.map((value) => (value instanceof Node ? value : element(tag, {}, String(value))));
  byId(id).replaceChildren(
    element("thead", {}, element("tr", {}, ...cells("th", head))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells("td", row)))),
  );
}

const mono = (text) => element("td", { className: "mono" }, text);

function showWorkers(workers) {
  showTable(
    "workers",
    ["Worker", "Device", "Name", "State", "Sessions", "Restarts", "Threads"],
    workers.map((worker) => {
      const state = stateOf(worker.state, "WORKER_STATE_");
      const badge = element("span", { className: state === "ready" ? "good" : "busy" }, state);
      return [
        mono(worker.id),
        mono(worker.device),
        worker.deviceName ?? "",
        element("td", {}, badge),
        formatCount(worker.numSessions),
        formatCount(worker.numRestarts),
        formatCount(worker.numThreads),
      ];
    }),
  );
}

function showSessions(sessions) {
  byId("sessions").hidden = sessions.length === 0;
  byId("no-sessions").hidden = sessions.length > 0;
  showTable(
    "sessions",
    ["Session", "For", "Tenant", "Worker", "Device", "Created", "Last used"],
    sessions.map((session) => [
      mono(session.name),
      session.displayName ?? "",
      session.tenant ?? "",
      mono(session.worker ?? ""),
      mono(session.device ?? ""),
      formatMoment(session.createTime),
      formatMoment(session.lastUseTime),
    ]),
  );
}

// Returns how many steps all runs took each second since the last time.
function stepRate(listed) {
  const now = performance.now();
  let steps = 0;
  for (const run of listed) {
    const before = stepsSeen.byRun.get(run.name);
    steps += before === undefined ? 0 : Math.max(0, Number(run.step ?? 0) - before);
  }
  const rate = stepsSeen.time ? (1000 * steps) / (now - stepsSeen.time) : 0;
  stepsSeen.time = now;
  stepsSeen.byRun = new Map(listed.map((run) => [run.name, Number(run.step ?? 0)]));
  return rate;
}

// A page of a list, perhaps not the whole of it.
const countOf = (items, response) => `${items.length}${response.nextPageToken ? "+" : ""}`;

function showTiles(info, sessions, listed) {
  const workers = info.workers ?? [];
  const ready = workers.filter((worker) => worker.state === "WORKER_STATE_READY").length;
  const running = listed.filter(isRunning).length;
  const tiles = [
    ["workers ready", `${ready} / ${workers.length}`],
    ["sessions", sessions],
    ["runs in progress", formatCount(running)],
    ["training steps a second", formatRate(stepRate(listed))],
  ];
  byId("tiles").replaceChildren(
    ...tiles.map(([label, value]) =>
      element(
        "div",
        { className: "panel tile" },
        element("b", {}, value),
        element("span", { className: "quiet" }, label),
      ),
    ),
  );
  showState(ready ? "serving" : "starting", ready ? "good" : "busy");
  byId("versions").textContent = `${info.serverVersion ?? ""} · torch ${info.torchVersion ?? ""}`;
}

async function refresh() {
  try {
    const [info, sessionPage, runPage] = await Promise.all([
      call("ServerService/GetServerInfo"),
      call("SessionService/ListSessions", { pageSize: PAGE_SIZE }),
      call("RunService/ListRuns", { pageSize: PAGE_SIZE }),
    ]);
    byId("sign-in").hidden = true;
    byId("dashboard").hidden = false;
    byId("sign-out").hidden = !hasToken();
    const sessions = sessionPage.sessions ?? [];
    const listed = runPage.runs ?? [];
    showTiles(info, countOf(sessions, sessionPage), listed);
    showWorkers(info.workers ?? []);
    showSessions(sessions);
    runs.update(listed);
    return true;
  } catch (error) {
    if (!(error instanceof CallError)) {
      throw error;
    }
    if (SIGN_IN_CODES.has(error.code)) {
      showSignIn(hasToken() ? error.message : "");
      setToken(null);
      return false;
    }
    showState(error.code === "UNREACHABLE" ? "unreachable" : error.message, "bad");
    return true;
  }
}

let timer = null;

// Asks again and again, while somebody looks and is signed in.
async function run() {
  clearTimeout(timer);
  const goesOn = document.hidden || (await refresh());
  if (goesOn) {
    timer = setTimeout(run, INTERVAL_MILLISECONDS);
  }
}

byId("sign-in").addEventListener("submit", (submit) => {
  submit.preventDefault();
  setToken(byId("token").value.trim());
  byId("token").value = "";
  run();
});

byId("sign-out").addEventListener("click", () => {
  clearTimeout(timer);
  setToken(null);
  runs.forget();
  showSignIn("");
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && byId("sign-in").hidden) {
    run();
  }
});

run();
