// The live chart of a run: Dice per class above, loss below, one x axis. It polls data.url for new points.
// Text from data goes through textContent or fillText only, never through HTML.

const POLL_MS = 1000, IDLE_MS = 5000, RETRY_MS = 3000;
const MAX_POINTS = 4000; // per series; beyond it all points are fetched again, thinned by the server
const AXES = { epochs: "epoch", step: "step", time: "time" };
const charts = new WeakMap(); // by element

export default function ({ data, parentElement }) {
  let chart = charts.get(parentElement);
  if (!chart) {
    chart = new Chart(parentElement);
    charts.set(parentElement, chart);
  }
  chart.show(data);
  return () => { chart.close(); charts.delete(parentElement); };
}

class Chart extends Renderer {
  constructor(parent) {
    super();
    this.host = parent.host ?? parent;
    this.root = parent.querySelector(".root");
    this.axis = "epochs";
    this.smooth = true;
    this.hidden = new Set();
  }

  show(data) {
    if (this.url !== data.url) {
      this.url = data.url;
      this.spark = data.spark;
      this.series = new Map();
      this.after = 0;
      this.view = null;
      this.hover = null;
      this.info = null;
      this.epochSteps = 0;
      this.problem = "";
      this.build();
      clearTimeout(this.timer);
      this.poll(this.url);
    }
    this.theme();
    this.render();
  }

  close() {
    clearTimeout(this.timer);
    this.observer?.disconnect();
    this.url = null;
  }

  build() {
    this.root.replaceChildren();
    this.observer?.disconnect();
    this.root.dataset.points = "0";
    const plot = element("div", "plot");
    this.canvas = element("canvas");
    this.canvas.style.height = (this.spark ? 44 : HEIGHT) + "px";
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", this.spark ? "Mean Dice so far" : "Dice per class and loss of this run");
    if (!this.spark) this.root.append(this.toolbar());
    this.empty = element("div", "empty");
    this.root.classList.toggle("spark", this.spark);
    this.tip = element("div", "tip");
    this.tip.hidden = true;
    plot.append(this.canvas, this.empty, this.tip);
    this.root.append(plot);
    if (!this.spark) {
      this.note = element("div", "note");
      this.note.setAttribute("role", "status");
      this.table = element("details");
      const summary = element("summary");
      summary.textContent = "Values as a table";
      this.table.append(summary, element("div", "scroll"));
      this.table.addEventListener("toggle", () => this.fillTable());
      this.root.append(this.note, this.table);
      this.listen();
    }
    this.observer = new ResizeObserver(() => this.render());
    this.observer.observe(plot);
  }

  toolbar() {
    const bar = element("div", "bar");
    this.legend = element("div", "legend");
    this.axes = element("div", "switch");
    this.axes.setAttribute("role", "group");
    this.axes.setAttribute("aria-label", "x axis");
    for (const [axis, title] of Object.entries(AXES)) {
      this.axes.append(button(title, () => { this.axis = axis; this.view = null; this.render(); }, axis));
    }
    const smooth = element("div", "switch");
    this.smoothButton = button("smooth", () => { this.smooth = !this.smooth; this.render(); });
    smooth.append(this.smoothButton);
    this.reset = element("div", "switch");
    this.reset.append(button("reset zoom", () => { this.view = null; this.render(); }));
    bar.append(this.legend, this.reset, smooth, this.axes);
    return bar;
  }

  // ---- data -----------------------------------------------------------------------------------------------------

  async poll(url) {
    let wait = RETRY_MS;
    const all = [...this.series.values()].some((s) => s.value.length > MAX_POINTS);
    try {
      const response = await fetch(`${url}?after=${all ? 0 : this.after}`, { credentials: "same-origin" });
      if (url !== this.url) return;
      if (response.ok) {
        const update = await response.json();
        if (url !== this.url) return;
        if (all) this.series = new Map();
        this.add(update);
        this.problem = "";
        wait = document.hidden || !update.active ? IDLE_MS : POLL_MS;
      } else {
        this.problem = response.status === 404 ? "This run no longer exists." : "The server refused to show this run.";
      }
    } catch {
      this.problem = "The server does not answer; the run is not affected. Trying again.";
    }
    if (url !== this.url) return;
    this.render();
    this.timer = setTimeout(() => this.poll(url), wait);
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
    this.placeEpochs();
    let points = 0;
    for (const s of this.series.values()) points += s.value.length;
    this.root.dataset.points = String(points);
    this.root.dataset.state = update.state;
    if (!this.spark && update.rows.length) { this.fillLegend(); this.fillTable(); }
  }

  // Position on the epoch axis: step / steps per epoch, i.e. 2.5 halfway through epoch 3. The steps per epoch are known
  // from the points after the first epoch, before from the configuration.
  placeEpochs() {
    let complete = 0;
    for (const s of this.series.values()) complete = Math.max(complete, s.epoch[s.epoch.length - 1] - 1);
    const steps = complete > 0 ? this.epochSteps : Math.max(this.epochSteps, this.info.steps_per_epoch ?? 1);
    for (const s of this.series.values()) s.epochs = s.step.map((step) => step / Math.max(steps, 1e-9));
  }

  // ---- interaction ----------------------------------------------------------------------------------------------

  listen() {
    const c = this.canvas;
    c.tabIndex = 0;
    const position = (e) => Math.min(this.box.right, Math.max(this.box.left, e.clientX - c.getBoundingClientRect().left));
    c.addEventListener("pointerdown", (e) => {
      if (e.button === 0 && this.empty.hidden) { c.setPointerCapture(e.pointerId); this.drag = [position(e), position(e)]; }
    });
    c.addEventListener("pointermove", (e) => {
      if (!this.box) return;
      if (this.drag) this.drag[1] = position(e); else this.hover = position(e);
      this.render();
    });
    c.addEventListener("pointerup", (e) => {
      const drag = this.drag;
      this.drag = null;
      if (drag && Math.abs(drag[1] - drag[0]) > 6) this.zoom(this.fromX(Math.min(...drag)), this.fromX(Math.max(...drag)));
      this.hover = position(e);
      this.render();
    });
    c.addEventListener("pointercancel", () => { this.drag = null; this.render(); });
    c.addEventListener("pointerleave", () => { if (!this.drag) { this.hover = null; this.render(); } });
    c.addEventListener("dblclick", () => { this.view = null; this.render(); });
    c.addEventListener("wheel", (e) => {
      if (!this.empty.hidden || !this.fromX) return;
      e.preventDefault();
      const [a, b] = this.view ?? this.full;
      if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) return this.pan(((b - a) * e.deltaX) / 600);
      const centre = this.fromX(position(e)), factor = Math.exp(Math.max(-200, Math.min(200, e.deltaY)) / 400);
      this.zoom(centre - (centre - a) * factor, centre + (b - centre) * factor);
    }, { passive: false });
    c.addEventListener("keydown", (e) => {
      if (!this.empty.hidden || !this.box) return;
      const [a, b] = this.view ?? this.full, middle = (a + b) / 2, half = (b - a) / 2;
      if (e.key === "ArrowLeft" || e.key === "ArrowRight") {
        const move = e.key === "ArrowLeft" ? -1 : 1;
        if (e.shiftKey) this.pan(move * half * 0.4);
        else { this.hover = Math.min(this.box.right, Math.max(this.box.left, (this.hover ?? this.box.right) + move * 8)); this.render(); }
      } else if (e.key === "+" || e.key === "=") this.zoom(middle - half / 1.4, middle + half / 1.4);
      else if (e.key === "-") this.zoom(middle - half * 1.4, middle + half * 1.4);
      else if (e.key === "0" || e.key === "Escape") { this.view = null; this.hover = null; this.render(); }
      else return;
      e.preventDefault();
    });
  }

  zoom(a, b) {
    const [low, high] = this.full;
    a = Math.max(low, a); b = Math.min(high, b);
    if (b - a < (high - low) / 1000) return;
    this.view = a <= low && b >= high ? null : [a, b];
    this.render();
  }

  pan(by) {
    if (!this.view) return;
    const [low, high] = this.full, [a, b] = this.view, shift = Math.max(low - a, Math.min(high - b, by));
    this.view = [a + shift, b + shift];
    this.render();
  }

  // ---- legend and table -----------------------------------------------------------------------------------------

  fillLegend() {
    const seen = new Set(), lines = this.lines().filter((l) => !seen.has(l.id) && seen.add(l.id));
    const signature = lines.map((l) => l.id).join("\n");
    if (signature === this.legendSignature && this.legend.childElementCount) return;
    this.legendSignature = signature;
    this.legend.replaceChildren(...lines.map((l) => {
      const b = button(l.id, () => {
        if (!this.hidden.delete(l.id)) this.hidden.add(l.id);
        b.setAttribute("aria-pressed", String(!this.hidden.has(l.id)));
        this.render();
      });
      const mark = element("i");
      mark.style.background = l.colour;
      b.prepend(mark);
      b.setAttribute("aria-pressed", String(!this.hidden.has(l.id)));
      b.title = "show or hide";
      return b;
    }));
  }

  fillTable() {
    if (!this.table?.open) return;
    const lines = this.lines(), rows = new Map();
    for (const l of lines) l.s.epoch.forEach((epoch, i) => {
      if (!rows.has(epoch)) rows.set(epoch, new Map());
      rows.get(epoch).set(l, l.s.value[i]);
    });
    const table = element("table"), head = element("tr");
    head.append(...["epoch", ...lines.map((l) => l.title)].map((t) => cell("th", t)));
    table.append(head);
    for (const epoch of [...rows.keys()].sort((a, b) => b - a).slice(0, 500)) {
      const line = element("tr"), values = rows.get(epoch);
      line.append(cell("td", String(epoch)), ...lines.map((l) => cell("td", number(values.get(l)))));
      table.append(line);
    }
    this.table.querySelector(".scroll").replaceChildren(table);
  }
}
