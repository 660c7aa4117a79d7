// The chart of loss curves.

import { byId, formatLoss } from "./elements.js";

const HEIGHT = 340;
const COLORS = ["#14b8a6", "#f59e0b", "#8b5cf6", "#f43f5e", "#0ea5e9", "#84cc16"];

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const showable = (value, logarithmic) =>
  Number.isFinite(value) && (!logarithmic || value > 0) ? value : null;

export class LossChart {
  constructor() {
    this.place = byId("chart");
    this.logarithmic = false;
    this.plot = null;
    this.drawn = "";
    this.colors = new Map();
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.drawn = "";
    });
  }

  colorOf(name) {
    if (!this.colors.has(name)) {
      this.colors.set(name, COLORS[this.colors.size % COLORS.length]);
    }
    return this.colors.get(name);
  }

  size() {
    return { width: this.place.clientWidth, height: HEIGHT };
  }

  // Draws the curves of runs: objects with `name`, `title` and `curve`.
  draw(runs) {
    const drawn = JSON.stringify([this.logarithmic, ...runs.map((run) => [run.name, run.title])]);
    const data = this.align(runs);
    if (drawn === this.drawn) {
      this.plot.setData(data);
      return;
    }
    this.drawn = drawn;
    this.plot?.destroy();
    this.plot = new uPlot(this.options(runs), data, this.place);
  }

  align(runs) {
    if (!runs.length) {
      return [[], []];
    }
    const show = (values) => values.map((value) => showable(value, this.logarithmic));
    return uPlot.join(
      runs.map(({ curve }) => [curve.steps, show(curve.losses), show(curve.smoothed())]),
    );
  }

  options(runs) {
    const axis = {
      stroke: style("--quiet"),
      grid: { stroke: style("--line"), width: 1 },
      ticks: { stroke: style("--line"), width: 1 },
    };
    const value = (_, number) => (number === null ? "–" : formatLoss(number));
    const curves = runs.flatMap((run) => {
      const color = this.colorOf(run.name);
      const shared = { value, spanGaps: true, points: { show: false } };
      return [
        { ...shared, class: "each-step", stroke: `${color}55`, width: 1 },
        { ...shared, label: run.title, stroke: color, width: 2 },
      ];
    });
    return {
      ...this.size(),
      legend: { show: runs.length > 0 },
      cursor: { y: false },
      scales: {
        x: { time: false },
        y: { distr: this.logarithmic ? 3 : 1 },
      },
      axes: [
        { ...axis, label: "step", labelSize: 22, labelGap: 0, size: 38 },
        {
          ...axis,
          size: 66,
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : formatLoss(tick))),
        },
      ],
      hooks: {
        // A click in the legend hides a curve: both of its lines.
        setSeries: [
          (plot, index, { show }) => {
            if (index && index % 2 === 0 && show !== undefined && plot.series[index - 1].show !== show) {
              plot.setSeries(index - 1, { show });
            }
          },
        ],
      },
      series: [{ label: "step" }, ...(curves.length ? curves : [{}])],
    };
  }
}
