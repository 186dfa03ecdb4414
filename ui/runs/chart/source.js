// The measurements of one run: fetched from its address while it is shown, new points only.

const POLL_MS = 1000, IDLE_MS = 5000, RETRY_MS = 3000;
const MAX_POINTS = 4000; // per series; beyond it all points are fetched again, thinned by the server

class Source {
  // run: { id, name, url, colour }; changed: called after each answer.
  constructor(run, changed) {
    Object.assign(this, run);
    this.changed = changed;
    this.series = new Map(); // by metric name
    this.after = this.epochSteps = 0;
    this.info = null;
    this.problem = "";
    this.poll();
  }

  close() {
    clearTimeout(this.timer);
    this.closed = true;
  }

  get points() {
    let points = 0;
    for (const s of this.series.values()) points += s.value.length;
    return points;
  }

  async poll() {
    let wait = RETRY_MS, isNew = false;
    const all = [...this.series.values()].some((s) => s.value.length > MAX_POINTS);
    try {
      const response = await fetch(`${this.url}?after=${all ? 0 : this.after}`, { credentials: "same-origin" });
      if (this.closed) return;
      if (response.ok) {
        const update = await response.json();
        if (this.closed) return;
        if (all) this.series = new Map();
        isNew = update.rows.length > 0;
        this.add(update);
        this.problem = "";
        wait = document.hidden || !update.active ? IDLE_MS : POLL_MS;
      } else {
        this.problem = response.status === 404 ? "This run no longer exists." : "The server refused to show this run.";
      }
    } catch {
      this.problem = "The server does not answer; the run is not affected. Trying again.";
    }
    if (this.closed) return;
    this.changed(isNew);
    this.timer = setTimeout(() => this.poll(), wait);
  }

  add(update) {
    this.info = update;
    this.after = update.last;
    for (const [number, epoch, step, time, value] of update.rows) {
      const name = update.names[number];
      let s = this.series.get(name);
      if (!s) this.series.set(name, (s = { epoch: [], step: [], time: [], value: [], epochs: [], smoothed: null }));
      // A resumed run repeats the steps after its checkpoint: the newer values replace the older ones.
      while (s.step.length && s.step[s.step.length - 1] >= step) {
        for (const list of [s.epoch, s.step, s.time, s.value, s.epochs]) list.pop();
      }
      s.smoothed = null;
      s.epoch.push(epoch); s.step.push(step); s.time.push(time); s.value.push(value); s.epochs.push(0);
      this.epochSteps = Math.max(this.epochSteps, epoch ? step / epoch : 0);
    }
    const steps = this.stepsPerEpoch;
    for (const s of this.series.values()) s.epochs = s.step.map((step) => step / steps);
  }

  // Steps per epoch: known from the points after the first epoch, before from the configuration.
  get stepsPerEpoch() {
    let complete = 0;
    for (const s of this.series.values()) complete = Math.max(complete, s.epoch[s.epoch.length - 1] - 1);
    return Math.max(complete > 0 ? this.epochSteps : Math.max(this.epochSteps, this.info.steps_per_epoch ?? 1), 1e-9);
  }

  // Position of a step on an axis: on the epoch axis step / steps per epoch, i.e. 2.5 halfway through epoch 3; on the time
  // axis that of the nearest measurement.
  place(axis, step) {
    if (axis === "step") return step;
    if (axis === "epochs") return step / this.stepsPerEpoch;
    let best = null;
    for (const s of this.series.values()) {
      const i = nearest(s.step, step);
      if (i >= 0 && (best === null || Math.abs(s.step[i] - step) < best[0])) best = [Math.abs(s.step[i] - step), s.time[i]];
    }
    return best ? best[1] : 0;
  }
}
