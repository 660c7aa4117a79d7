// Small helpers: elements, and values as people read them.

// Returns an element with properties and children; strings become text, never markup.
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const formatCount = (number) => whole.format(Number(number ?? 0));
export const formatRate = (number) => compact.format(Number(number ?? 0));

export function formatLoss(number) {
  if (number === undefined || number === null) {
    return "–";
  }
  const value = Number(number);
  const small = value !== 0 && Math.abs(value) < 0.001;
  return small ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

export function formatSeconds(seconds) {
  const total = Number(seconds ?? 0);
  if (total < 60) {
    return `${total < 10 ? total.toFixed(1) : total.toFixed(0)} s`;
  }
  const minutes = Math.floor(total / 60);
  return minutes < 60
    ? `${minutes} min ${Math.floor(total % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const formatTime = (text) =>
  text ? new Date(text).toLocaleTimeString("en-GB", { hour12: false }) : "";

// The time of day, with the date unless it is today's.
export function formatMoment(text) {
  if (!text) {
    return "–";
  }
  const moment = new Date(text);
  const today = moment.toDateString() === new Date().toDateString();
  return today ? formatTime(text) : `${moment.toISOString().slice(0, 10)} ${formatTime(text)}`;
}

// "RUN_STATE_RUNNING" -> "running"
export const stateOf = (text, prefix) =>
  (text ?? "").replace(prefix, "").toLowerCase() || "unknown";

// Long random names are told apart by their first characters.
export function shorten(name) {
  const id = (name ?? "").split("/").at(-1);
  return id.length > 12 ? `${id.slice(0, 8)}…` : id;
}
