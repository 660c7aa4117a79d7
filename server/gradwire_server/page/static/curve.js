// The losses of one run, in memory that does not grow with the run.

const MOST_POINTS = 8000;
const SMOOTHING = 0.97;
const LEAST_POINTS_TO_SMOOTH = 50;

export class Curve {
  constructor() {
    this.steps = [];
    this.losses = [];
    this.lastStep = 0;
    // How many steps a point stands for, and those of the next point.
    this.stride = 1;
    this.pending = [];
  }

  // Adds the losses of consecutive steps, of which `lastStep` is the last.
  add(lastStep, losses) {
    let step = lastStep - losses.length;
    for (const loss of losses) {
      step += 1;
      // A run that goes on from a checkpoint may take steps again.
      if (step > this.lastStep) {
        this.lastStep = step;
        this.push(step, Number(loss));
      }
    }
  }

  push(step, loss) {
    this.pending.push(loss);
    if (this.pending.length < this.stride) {
      return;
    }
    this.steps.push(step);
    this.losses.push(mean(this.pending));
    this.pending = [];
    if (this.steps.length >= MOST_POINTS) {
      this.steps = this.steps.filter((_, index) => index % 2 === 1);
      this.losses = this.steps.map((_, index) =>
        mean([this.losses[2 * index], this.losses[2 * index + 1]]),
      );
      this.stride *= 2;
    }
  }

  // Returns the losses with an exponential moving average over about 1 / 33 of the points seen;
  // none while there are too few for it to say anything.
  smoothed() {
    if (this.losses.length < LEAST_POINTS_TO_SMOOTH) {
      return this.losses;
    }
    let sum = 0;
    let weight = 0;
    return this.losses.map((loss) => {
      if (Number.isFinite(loss)) {
        sum = SMOOTHING * sum + (1 - SMOOTHING) * loss;
        weight = SMOOTHING * weight + (1 - SMOOTHING);
      }
      return weight ? sum / weight : null;
    });
  }
}

const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
