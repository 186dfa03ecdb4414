// The live chart of one run (Dice per class above, loss below, one x axis) or of several: their curves over each other.
// Text from data goes through textContent or fillText only, never through HTML.

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
    this.sources = [];
    this.chosenAxis = null;
    this.smooth = true;
    this.log = false;
    this.measure = MEAN;
    this.lower = Object.keys(LOWER)[0];
    this.hidden = new Set(); // ids of legend entries
    this.view = this.hover = null;
  }

  show(data) {
    if (!this.canvas) this.build(data.spark);
    const known = new Map(this.sources.map((s) => [s.id, s])), ids = new Set(data.runs.map((r) => r.id));
    for (const source of this.sources) if (!ids.has(source.id)) source.close();
    if (!data.runs.some((r) => known.has(r.id))) this.view = this.hover = null;
    const overlaid = data.runs.length > 1;
    if (overlaid !== this.overlaid) { this.hidden.clear(); this.legendSignature = null; }
    this.csv = data.csv;
    this.selectedId = data.selected;
    this.sources = data.runs.map((run) => {
      const source = known.get(run.id);
      return source ? Object.assign(source, run) : new Source(run, (isNew) => this.update(isNew));
    });
    this.theme();
    this.update(true);
  }

  close() {
    for (const source of this.sources) source.close();
    this.sources = [];
    this.pictures?.stop();
    this.observer?.disconnect();
    this.forgetPixelRatio?.();
  }

  build(spark) {
    this.spark = spark;
    this.root.classList.toggle("spark", spark);
    this.canvas = element("canvas");
    this.canvas.style.height = (spark ? 44 : HEIGHT) + "px";
    this.canvas.setAttribute("role", "img");
    this.empty = element("div", "empty");
    this.tip = element("div", "tip");
    this.tip.hidden = true;
    const plot = element("div", "plot");
    plot.append(this.canvas, this.empty, this.tip);
    if (spark) {
      this.root.append(plot);
    } else {
      this.pictures = new Pictures(() => this.render());
      const body = element("div", "body");
      body.append(plot, this.pictures.root);
      this.note = element("div", "note");
      this.note.setAttribute("role", "status");
      this.table = element("details");
      const scroll = element("div", "scroll");
      scroll.tabIndex = 0;
      scroll.setAttribute("role", "region");
      scroll.setAttribute("aria-label", "Values");
      this.table.append(element("summary", "", "Values as a table"), scroll);
      this.table.addEventListener("toggle", () => this.fillTable());
      this.root.append(this.toolbar(), body, this.note, this.table);
      this.listen();
    }
    this.observer = new ResizeObserver(() => this.render());
    this.observer.observe(plot);
    this.forgetPixelRatio = onPixelRatioChange(() => this.render());
  }

  // After an answer of the server, or with other runs.
  update(isNew) {
    const { info } = this.selected;
    this.root.dataset.points = String(this.sources.reduce((sum, source) => sum + source.points, 0));
    this.root.dataset.runs = String(this.sources.length);
    if (info) this.root.dataset.state = info.state;
    const name = this.overlaid ? `Dice and loss of ${this.sources.length} runs` : "Dice per class and loss of this run";
    this.canvas.setAttribute("aria-label", this.spark ? "Mean Dice so far" : name);
    if (!this.spark) {
      this.pictures.show(this.selected);
      if (isNew) { this.fillLegend(); this.fillTable(); }
    }
    this.render();
  }

  // ---- toolbar, legend and table ----------------------------------------------------------------------------------

  toolbar() {
    const bar = element("div", "bar"), redraw = (change) => () => { change(); this.fillLegend(); this.fillTable(); this.render(); };
    this.legend = element("div", "legend");
    this.legend.setAttribute("role", "group");
    this.legend.setAttribute("aria-label", "Legend");
    this.stops = new RovingFocus(this.legend, () => [...this.legend.children], true);
    this.measureChoice = choice("Dice of", [MEAN], (value) => redraw(() => { this.measure = value; })());
    this.lowerChoice = choice("Lower panel", Object.keys(LOWER), (value) => redraw(() => { this.lower = value; })());
    this.axes = buttons("x axis", ...Object.entries(AXES).map(([axis, title]) => button(title, redraw(() => { this.chosenAxis = axis; }), axis)));
    this.smoothButton = button("smooth", redraw(() => { this.smooth = !this.smooth; }));
    this.logButton = button("log", redraw(() => { this.log = !this.log; }));
    this.logButton.title = "logarithmic axis of the lower panel";
    this.reset = buttons("zoom", button("reset zoom", redraw(() => { this.view = null; })));
    const save = buttons("Save", button("PNG", () => this.save("png")), button("SVG", () => this.save("svg")), button("CSV", () => download(this.csv, "measurements.csv")));
    for (const b of save.children) b.title = `save as ${b.textContent}` + (b.textContent === "CSV" ? ": all measurements" : "");
    bar.append(this.legend, this.reset, this.measureChoice, this.lowerChoice, buttons("curves", this.smoothButton, this.logButton), this.axes, save);
    return bar;
  }

  showControls() {
    this.reset.hidden = !this.view;
    this.root.dataset.zoom = this.view ? this.view.map((v) => v.toFixed(2)).join(",") : "";
    this.root.dataset.axis = this.axis;
    for (const b of this.axes.children) b.setAttribute("aria-pressed", String(b.dataset.value === this.axis));
    this.smoothButton.setAttribute("aria-pressed", String(this.smooth));
    this.logButton.setAttribute("aria-pressed", String(this.log));
    this.measureChoice.hidden = !this.overlaid;
    fillChoice(this.measureChoice, measures(this.sources), this.measure);
  }

  // { id, label, colour } of each curve that can be hidden.
  entries() {
    const byId = new Map();
    for (const { id, label, colour } of this.lines()) if (!byId.has(id)) byId.set(id, { id, label: label ?? id, colour });
    return [...byId.values()];
  }

  fillLegend() {
    const entries = this.entries(), signature = JSON.stringify(entries);
    if (signature === this.legendSignature) return;
    this.legendSignature = signature;
    this.legend.replaceChildren(...entries.map(({ id, label, colour }) => {
      const b = button(label, () => {
        if (!this.hidden.delete(id)) this.hidden.add(id);
        b.setAttribute("aria-pressed", String(!this.hidden.has(id)));
        this.render();
      });
      const mark = element("i");
      mark.style.background = colour;
      b.prepend(mark);
      b.setAttribute("aria-pressed", String(!this.hidden.has(id)));
      b.title = "show or hide";
      b.tabIndex = -1; // see RovingFocus
      return b;
    }));
    this.stops.renew();
  }

  fillTable() {
    if (!this.table.open) return;
    const lines = this.lines(), rows = new Map();
    for (const l of lines) l.s.epoch.forEach((epoch, i) => {
      if (!rows.has(epoch)) rows.set(epoch, new Map());
      rows.get(epoch).set(l, l.s.value[i]);
    });
    const table = element("table"), head = element("tr");
    head.append(...["epoch", ...lines.map((l) => l.title)].map((t) => element("th", "", t)));
    table.append(head);
    for (const epoch of [...rows.keys()].sort((a, b) => b - a).slice(0, 500)) {
      const line = element("tr"), values = rows.get(epoch);
      line.append(element("td", "", String(epoch)), ...lines.map((l) => element("td", "", number(values.get(l)))));
      table.append(line);
    }
    this.table.querySelector(".scroll").replaceChildren(table);
  }

  async save(kind) {
    const entries = this.entries().filter((e) => !this.hidden.has(e.id));
    const name = (this.overlaid ? "runs" : this.selected.name).replace(/[^\p{L}\p{N}._-]+/gu, "-") || "run";
    downloadBlob(await (kind === "svg" ? chartAsSvg : chartAsPng)(this, entries, HEIGHT), `${name}.${kind}`);
    this.render(); // its scales are those of the file
  }

  // ---- interaction ------------------------------------------------------------------------------------------------

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
      else if (drag) this.choosePicture(position(e));
      this.hover = position(e);
      this.render();
    });
    c.addEventListener("pointercancel", () => { this.drag = null; this.render(); });
    c.addEventListener("pointerleave", () => { if (!this.drag) { this.hover = null; this.render(); } });
    c.addEventListener("dblclick", () => { this.view = null; this.render(); });
    c.addEventListener("wheel", (e) => {
      if (!this.empty.hidden || !this.fromX) return;
      const sideways = Math.abs(e.deltaX) > Math.abs(e.deltaY) && this.view, zooms = e.ctrlKey || e.metaKey;
      if (!sideways && !zooms) return; // the page scrolls
      e.preventDefault();
      const [a, b] = this.view ?? this.full;
      if (!zooms) return this.pan(((b - a) * e.deltaX) / 600);
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
      else if (e.key === "Enter" && this.hover !== null) this.choosePicture(this.hover);
      else return;
      e.preventDefault();
    });
  }

  // Show the picture of the validation nearest to a position of the chart.
  choosePicture(x) {
    const at = this.fromX(x), steps = this.pictures.pictures.map((p) => p.step);
    const i = nearest(steps.map((step) => this.selected.place(this.axis, step)), at);
    if (i >= 0) this.pictures.chooseStep(steps[i]);
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
}
