// Runs: their list, and the curves and events of those that are looked at.

import { followRun } from "./calls.js";
import { Curve } from "./curve.js";
import {
  byId,
  element,
  formatCount,
  formatLoss,
  formatRate,
  formatSeconds,
  formatTime,
  shorten,
  stateOf,
} from "./elements.js";

// How many runs have a curve. A browser keeps six connections to a server; each run that goes on
// takes one.
const MOST_SHOWN = 4;
const MOST_EVENTS = 400;

const STATE_CLASSES = {
  running: "good",
  succeeded: "quiet",
  queued: "busy",
  paused: "busy",
  failed: "bad",
  cancelled: "quiet",
};

export const isRunning = (run) => run.state === "RUN_STATE_RUNNING";
const stateName = (run) => stateOf(run.state, "RUN_STATE_");
const titleOf = (run) => run.displayName || shorten(run.name);

// What is known of a run from its events.
class Followed {
  constructor(name) {
    this.name = name;
    this.title = shorten(name);
    this.curve = new Curve();
    this.events = [];
    this.progress = null;
    this.stop = new AbortController();
  }

  add(event) {
    this.events.push(event);
    if (this.events.length > MOST_EVENTS) {
      this.events.shift();
    }
    if (event.progress) {
      this.progress = event.progress;
      this.curve.add(Number(event.progress.step ?? 0), event.progress.losses ?? []);
    }
  }
}

export class Runs {
  constructor(chart) {
    this.chart = chart;
    this.listed = [];
    this.followed = new Map();
    this.items = new Map();
    this.selected = null;
    this.dirty = false;
    byId("close-log").addEventListener("click", () => this.select(null));
    byId("logarithmic").addEventListener("change", (change) => {
      chart.logarithmic = change.target.checked;
      this.dirty = true;
    });
    const draw = () => {
      if (this.dirty) {
        this.dirty = false;
        this.draw();
      }
      requestAnimationFrame(draw);
    };
    draw();
  }

  // Takes what ListRuns returned, newest first.
  update(listed) {
    this.listed = listed;
    const shown = this.chooseShown();
    for (const [name, followed] of this.followed) {
      if (!shown.has(name)) {
        followed.stop.abort();
        this.followed.delete(name);
      }
    }
    for (const run of listed) {
      if (shown.has(run.name)) {
        this.follow(run.name).title = titleOf(run);
      }
    }
    this.drawList();
    this.dirty = true;
  }

  // The run that is selected, those that go on, and the latest of the others.
  chooseShown() {
    const rank = (run) => (run.name === this.selected ? 0 : isRunning(run) ? 1 : 2);
    const ranked = [...this.listed].sort((one, other) => rank(one) - rank(other));
    return new Set(ranked.slice(0, MOST_SHOWN).map((run) => run.name));
  }

  follow(name) {
    let followed = this.followed.get(name);
    if (!followed) {
      followed = new Followed(name);
      this.followed.set(name, followed);
      const add = (event) => {
        followed.add(event);
        this.dirty = true;
      };
      followRun(name, add, followed.stop.signal);
    }
    return followed;
  }

  forget() {
    for (const followed of this.followed.values()) {
      followed.stop.abort();
    }
    this.followed.clear();
    this.selected = null;
    this.update([]);
  }

  select(name) {
    this.selected = name;
    this.update(this.listed);
  }

  draw() {
    const shown = this.listed.filter((run) => this.followed.has(run.name));
    this.chart.draw(shown.map((run) => this.followed.get(run.name)));
    this.drawLog();
  }

  // An item stays the same element as long as its run is listed, so that neither a click nor the
  // focus is lost while its text changes.
  drawList() {
    byId("no-runs").hidden = this.listed.length > 0;
    const items = this.listed.map((run) => this.itemOf(run));
    const list = byId("runs");
    if (items.length !== list.children.length || items.some((item, i) => item !== list.children[i])) {
      list.replaceChildren(...items);
    }
    const names = new Set(this.listed.map((run) => run.name));
    for (const name of this.items.keys()) {
      if (!names.has(name)) {
        this.items.delete(name);
      }
    }
  }

  itemOf(run) {
    if (!this.items.has(run.name)) {
      const button = element("button", { className: "run", title: run.name });
      button.addEventListener("click", () => this.select(run.name));
      this.items.set(run.name, element("li", {}, button));
    }
    const item = this.items.get(run.name);
    this.fill(item.firstChild, run);
    return item;
  }

  fill(button, run) {
    const state = stateName(run);
    const swatch = element("span", { className: "swatch" });
    if (this.followed.has(run.name)) {
      swatch.style.borderColor = swatch.style.background = this.chart.colorOf(run.name);
    }
    button.setAttribute("aria-pressed", String(run.name === this.selected));
    button.replaceChildren(
      swatch,
      element("span", { className: "name" }, titleOf(run)),
      element("span", { className: STATE_CLASSES[state] ?? "quiet" }, state),
      element("span", { className: "facts" }, this.facts(run)),
    );
    if (isRunning(run) && Number(run.numSteps)) {
      button.append(
        element("progress", { value: Number(run.step ?? 0), max: Number(run.numSteps) }),
      );
    }
  }

  facts(run) {
    const steps = [`step ${formatCount(run.step)} of ${formatCount(run.numSteps)}`];
    if (run.meanLoss !== undefined) {
      steps.push(`loss ${formatLoss(run.meanLoss)}`);
    }
    const time = [formatSeconds(run.elapsedSeconds)];
    const progress = this.followed.get(run.name)?.progress;
    if (isRunning(run) && progress) {
      time.push(`${formatSeconds(progress.remainingSeconds)} left`);
      time.push(`${formatRate(progress.samplesPerSecond)} samples/s`);
    }
    return `${steps.join(" · ")}\n${time.join(" · ")}`;
  }

  drawLog() {
    const followed = this.followed.get(this.selected);
    byId("log").hidden = !followed;
    if (!followed) {
      return;
    }
    byId("log-run").textContent = followed.title;
    const list = byId("events");
    const last = followed.events.at(-1)?.number ?? "";
    const drawn = `${followed.name} ${last}`;
    if (list.dataset.drawn === drawn) {
      return;
    }
    list.dataset.drawn = drawn;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.replaceChildren(...followed.events.map(makeEvent));
    if (atEnd) {
      list.scrollTop = list.scrollHeight;
    }
  }
}

function makeEvent(event) {
  const kind = Object.keys(event).find((key) => key !== "number" && key !== "time") ?? "event";
  return element(
    "li",
    {},
    element("span", { className: "quiet" }, String(event.number)),
    element("span", { className: "quiet" }, formatTime(event.time)),
    element("span", { className: KIND_CLASSES[kind] ?? "" }, kind),
    element("span", { className: "what" }, describe(kind, event[kind])),
  );
}

const KIND_CLASSES = { warning: "busy", started: "good", ended: "good", stateChange: "busy" };

const values = (map) =>
  Object.entries(map ?? {}).map(([name, value]) => `${name} ${formatLoss(value)}`);

const more = (what) => (what.earlier ? ` (and ${what.earlier.length} before it)` : "");

function describe(kind, what) {
  switch (kind) {
    case "created":
      return what.name ?? "";
    case "started":
      return `${formatCount(what.numSteps)} steps over ${formatCount(what.numSamples)} samples on ${what.device}`;
    case "progress":
      return [
        `epoch ${what.epoch ?? 0}`,
        `step ${formatCount(what.step)}`,
        `loss ${formatLoss(what.losses?.at(-1))}`,
        `mean ${formatLoss(what.meanLoss)}`,
      ].join(", ");
    case "validation":
      return `step ${formatCount(what.step)}: ${values(what.values).join(", ")}${more(what)}`;
    case "checkpoint":
      return `${what.name} at step ${formatCount(what.step)}${what.best ? ", the best so far" : ""}${more(what)}`;
    case "warning":
      return `${what.reason}: ${what.message}${more(what)}`;
    case "stateChange":
      return [stateOf(what.state, "RUN_STATE_"), what.reason].filter(Boolean).join(": ");
    case "ended":
      return [
        what.state ? stateOf(what.state, "RUN_STATE_") : "ended",
        `${formatCount(what.numSteps)} steps`,
        `mean loss ${formatLoss(what.meanLoss)}`,
        formatSeconds(what.elapsedSeconds),
        what.reason || what.failure?.message || "",
      ]
        .filter(Boolean)
        .join(", ");
    default:
      return "";
  }
}
