// Rendering of the chart: two panels on one canvas, colours of the theme, the tooltip.

const PAD = { left: 48, right: 14, top: 20, gap: 30, bottom: 38 };
const HEIGHT = 430, EMPTY_HEIGHT = 132, DICE_SHARE = 0.62;
const MIN_DICE_SPAN = 0.1; // the Dice axis is never narrower: a small change must not look large
const MIN_SMOOTHED = 12; // shorter curves are not smoothed
const AXIS_TITLES = { epochs: "epoch", step: "step", time: "training time" };

// Base class of Chart (chart.js).
class Renderer {
  get overlaid() { return this.sources.length > 1; }

  get selected() { return this.sources.find((s) => s.id === this.selectedId) ?? this.sources[0]; }

  // The axis that was chosen; before that the time, until a run has completed two epochs.
  get axis() {
    if (this.chosenAxis) return this.chosenAxis;
    const epochs = this.sources.flatMap((source) => [...source.series.values()].map((s) => s.epochs[s.epochs.length - 1]));
    return Math.max(0, ...epochs) < 2 ? "time" : "epochs";
  }

  lines() {
    return this.overlaid ? linesOfRuns(this.sources, this.measure, this.lower) : linesOfRun(this.selected, this.lower, this);
  }

  theme() {
    const style = getComputedStyle(this.host);
    const read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
    this.ink = read("--st-text-color", "#222");
    this.paper = read("--st-background-color", "#fff");
    this.grid = read("--st-border-color", "#ddd");
    this.accent = read("--st-primary-color", "#5b4bc4");
    this.faint = read("--st-gray-color", "#888");
    this.family = read("--st-font", "sans-serif");
    this.font = `11px ${this.family}`;
    this.palette = read("--st-chart-categorical-colors", "#4a90d9").split(",").map((c) => c.trim());
  }

  render() {
    if (!this.sources.length || !this.canvas) return;
    const lines = this.lines(), relevant = this.spark ? lines.filter((l) => l.panel === 0 && !l.whole) : lines;
    const { info, problem } = this.selected;
    this.empty.hidden = relevant.some((l) => l.s.value.length);
    this.empty.textContent = this.empty.hidden ? "" : problem || emptyText(info);
    this.root.classList.toggle("waiting", !this.empty.hidden);
    if (!this.spark) this.canvas.style.height = (this.empty.hidden || !info ? HEIGHT : EMPTY_HEIGHT) + "px";
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const g = this.canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    g.font = this.font;
    if (this.spark) return this.renderSparkline(g, lines, width, height);
    if (this.shownAxis !== this.axis) { this.shownAxis = this.axis; this.view = null; }
    this.showControls();
    if (!this.empty.hidden) return;
    const panels = this.renderCurves(g, lines, width, height);
    this.note.textContent = this.problems();
    this.note.hidden = !this.note.textContent;
    if (this.drag) {
      g.fillStyle = this.accent; g.globalAlpha = 0.15;
      g.fillRect(Math.min(...this.drag), PAD.top, Math.abs(this.drag[1] - this.drag[0]), this.box.bottom - PAD.top);
      g.globalAlpha = 1;
    }
    this.renderPictureMark(g);
    this.renderTooltip(g, panels, lines.filter((l) => !this.hidden.has(l.id)));
  }

  problems() {
    const texts = this.sources.filter((s) => s.problem).map((s) => (this.overlaid ? `${s.name}: ${s.problem}` : s.problem));
    if (this.omitted) texts.push("Values of 0 and below are not on a logarithmic axis.");
    return texts.join(" ");
  }

  // Panels, axes and curves on a 2D context (or one that writes SVG); returns the panels.
  renderCurves(g, lines, width, height) {
    const shown = lines.filter((l) => !this.hidden.has(l.id));
    const inner = height - PAD.top - PAD.gap - PAD.bottom, split = Math.round(inner * DICE_SHARE);
    this.box = { left: PAD.left, right: width - PAD.right, top: PAD.top, bottom: height - PAD.bottom };
    const full = extent(lines.map((l) => l.s[this.axis]));
    this.full = full[0] === full[1] ? [full[0] - 0.5, full[1] + 0.5] : full;
    const [x0, x1] = this.view ?? this.full;
    this.x = scale([x0, x1], [this.box.left, this.box.right]);
    this.fromX = scale([this.box.left, this.box.right], [x0, x1]);
    const panels = [
      { top: PAD.top, bottom: PAD.top + split, title: this.overlaid ? this.upperTitle() : "Dice" },
      { top: PAD.top + split + PAD.gap, bottom: height - PAD.bottom, title: this.lower + (this.log ? " (log)" : ""), log: this.log },
    ];
    this.omitted = false;
    panels.forEach((p, i) => {
      p.range = this.range(shown.filter((l) => l.panel === i), i, x0, x1);
      p.y = scale(p.range, [p.bottom, p.top], p.log);
    });
    const ticks = xTicks(x0, x1, this.axis, (this.box.right - this.box.left) / 80);
    panels.forEach((p, i) => this.renderPanel(g, p, i, shown, ticks));
    if (!this.overlaid) this.renderBest(g, panels[0], lines);
    return panels;
  }

  upperTitle() { return this.measure === MEAN ? "mean Dice" : `Dice of ${this.measure}`; }

  range(lines, panel, x0, x1) {
    const log = panel === 1 && this.log;
    let low = Infinity, high = -Infinity;
    for (const l of lines) {
      l.s.value.forEach((v, i) => {
        const x = l.s[this.axis][i];
        if (v === null || x < x0 || x > x1) return;
        if (log && v <= 0) { this.omitted = true; return; }
        low = Math.min(low, v); high = Math.max(high, v);
      });
    }
    if (low > high) return log ? [0.1, 1] : [0, 1];
    if (log) { const factor = Math.max((high / low) ** 0.08, 1.05); return [low / factor, high * factor]; }
    if (panel === 0) { const margin = (MIN_DICE_SPAN - (high - low)) / 2; if (margin > 0) { low -= margin; high += margin; } }
    const least = panel === 0 ? 0.005 : Math.max(Math.abs(high), Math.abs(low)) * 0.02 || 0.005;
    const margin = Math.max((high - low) * 0.08, least);
    return panel === 0 ? [Math.max(0, low - margin), Math.min(1, high + margin)] : [low - margin, high + margin];
  }

  renderPanel(g, p, index, lines, ticks) {
    const { left, right } = this.box, [y0, y1] = p.range;
    g.lineWidth = 1;
    g.textBaseline = "middle";
    for (const v of (p.log ? logTicks : niceTicks)(y0, y1, (p.bottom - p.top) / 38)) {
      const y = Math.round(p.y(v)) + 0.5;
      g.strokeStyle = this.grid; g.globalAlpha = 0.7;
      stroke(g, [[left, y], [right, y]]);
      g.globalAlpha = 0.75; g.fillStyle = this.ink; g.textAlign = "right";
      g.fillText(tickText(v), left - 7, y);
    }
    g.textBaseline = "top";
    for (const t of ticks) {
      const x = Math.round(this.x(t.at)) + 0.5;
      g.strokeStyle = this.grid; g.globalAlpha = 0.4;
      stroke(g, [[x, p.top], [x, p.bottom]]);
      if (index === 1) { g.globalAlpha = 0.75; g.textAlign = "center"; g.fillText(t.text, x, p.bottom + 6); }
    }
    g.globalAlpha = 0.75; g.fillStyle = this.ink;
    if (index === 1) { g.textAlign = "center"; g.fillText(AXIS_TITLES[this.axis], (left + right) / 2, p.bottom + 22); }
    g.textAlign = "left"; g.textBaseline = "bottom";
    g.fillText(p.title, left, p.top - 4);
    if (index === 0 && !this.lines().some((l) => l.panel === 0)) {
      g.textAlign = "center"; g.textBaseline = "middle";
      const active = this.sources.some((s) => s.info?.active);
      g.fillText(active ? "Dice appears after the first validation" : "Dice was not measured", (left + right) / 2, (p.top + p.bottom) / 2);
    }
    g.globalAlpha = 1;
    g.save();
    g.beginPath(); g.rect(left - 5, p.top - 5, right - left + 10, p.bottom - p.top + 10); g.clip();
    for (const l of lines) if (l.panel === index) this.renderLine(g, p, l);
    g.restore();
  }

  renderLine(g, p, l) {
    const xs = l.s[this.axis], raw = p.log ? l.s.value.map((v) => (v > 0 ? v : null)) : l.s.value;
    g.strokeStyle = g.fillStyle = l.colour;
    if (l.whole) {
      raw.forEach((v, i) => { if (v !== null) diamond(g, this.x(xs[i]), p.y(v), 4.5); });
      return;
    }
    g.lineJoin = "round";
    g.setLineDash(l.mean ? [5, 4] : []);
    const smooth = this.smooth && raw.length > MIN_SMOOTHED;
    const curve = !smooth ? null : p.log ? smoothed(raw.map((v) => v && Math.log(v))).map((v) => v && Math.exp(v)) : (l.s.smoothed ??= smoothed(raw));
    if (curve) {
      g.globalAlpha = l.faint ? 0.12 : 0.28; g.lineWidth = 1;
      trace(g, xs, raw, this.x, p.y);
    }
    g.globalAlpha = l.mean ? 0.75 : l.faint ? 0.5 : 1; g.lineWidth = l.mean ? 1.5 : l.faint ? 1.25 : 2;
    trace(g, xs, curve ?? raw, this.x, p.y);
    g.setLineDash([]);
    if (raw.length === 1 && raw[0] !== null) { g.beginPath(); g.arc(this.x(xs[0]), p.y(raw[0]), 3, 0, 7); g.fill(); }
    g.globalAlpha = 1;
  }

  renderBest(g, p, lines) {
    const best = this.selected.info?.best;
    const reference = lines.find((l) => l.panel === 0 && l.s.epoch.includes(best?.epoch));
    if (!best || !reference) return;
    const at = reference.s[this.axis][reference.s.epoch.lastIndexOf(best.epoch)], x = Math.round(this.x(at)) + 0.5;
    if (x < this.box.left - 1 || x > this.box.right + 1) return;
    g.strokeStyle = this.accent; g.setLineDash([3, 3]); g.lineWidth = 1;
    stroke(g, [[x, p.top], [x, this.box.bottom]]);
    g.setLineDash([]);
    const text = `best ${best.mean_dice === null ? "" : number(best.mean_dice)} · epoch ${best.epoch}`;
    const room = g.measureText(text).width + 8, leftSide = x + room > this.box.right;
    g.fillStyle = this.accent; g.textBaseline = "bottom"; g.textAlign = leftSide ? "right" : "left";
    g.fillText(text, x + (leftSide ? -5 : 5), p.bottom - 3);
  }

  // A triangle on the axis at the validation whose picture is shown.
  renderPictureMark(g) {
    const step = this.pictures.shownStep;
    if (step === null) return;
    const x = this.x(this.selected.place(this.axis, step)), y = this.box.bottom;
    if (x < this.box.left - 1 || x > this.box.right + 1) return;
    g.fillStyle = this.ink;
    g.beginPath(); g.moveTo(x, y); g.lineTo(x - 5, y - 7); g.lineTo(x + 5, y - 7); g.closePath(); g.fill();
  }

  renderTooltip(g, panels, lines) {
    const at = this.hover;
    if (at === null || this.drag) { this.tip.hidden = true; return; }
    const rows = [];
    let anchor = null;
    for (const l of lines) {
      const i = nearest(l.s[this.axis], this.fromX(at));
      if (i < 0 || l.s.value[i] === null) continue;
      const x = this.x(l.s[this.axis][i]);
      if (l.whole && Math.abs(x - at) > 12) continue;
      if (this.overlaid && x < at - 12 && i === l.s.value.length - 1) continue; // the run is shorter
      if (!l.whole && (anchor === null || Math.abs(x - at) < Math.abs(anchor.x - at))) anchor = { x, l, i };
      rows.push([l, l.s.value[i]]);
      if (panels[l.panel].log && l.s.value[i] <= 0) continue;
      g.fillStyle = l.colour;
      g.beginPath(); g.arc(x, panels[l.panel].y(l.s.value[i]), 3.5, 0, 7); g.fill();
    }
    if (!anchor) { this.tip.hidden = true; return; }
    g.strokeStyle = this.ink; g.globalAlpha = 0.35; g.lineWidth = 1;
    stroke(g, [[Math.round(anchor.x) + 0.5, PAD.top], [Math.round(anchor.x) + 0.5, this.box.bottom]]);
    g.globalAlpha = 1;
    const { s } = anchor.l, head = element("b");
    head.textContent = `epoch ${s.epoch[anchor.i]} · step ${s.step[anchor.i].toLocaleString("en")} · ${clock(s.time[anchor.i])}`;
    this.tip.replaceChildren(head, ...rows.map(([l, v]) => tipRow(l, v)));
    this.tip.hidden = false;
    const room = this.tip.offsetWidth + 14, right = anchor.x + room > this.canvas.clientWidth;
    this.tip.style.transform = `translate(${Math.max(0, right ? anchor.x - room : anchor.x + 14)}px, ${PAD.top + 6}px)`;
  }

  renderSparkline(g, lines, width, height) {
    const mean = lines.filter((l) => l.panel === 0 && !l.whole);
    const [x0, x1] = extent(mean.map((l) => l.s.epoch)), span = Math.max(1e-9, x1 - x0);
    for (const l of mean) {
      g.strokeStyle = g.fillStyle = l.colour; g.lineWidth = l.mean ? 1 : 1.75; g.globalAlpha = l.mean ? 0.5 : 1;
      const x = (v) => 3 + ((v - x0) / span) * (width - 6), y = (v) => height - 4 - v * (height - 8);
      trace(g, l.s.epoch, l.s.value, x, y);
      if (l.s.value.length === 1 && l.s.value[0] !== null) { g.beginPath(); g.arc(x(x0), y(l.s.value[0]), 2, 0, 7); g.fill(); }
    }
    g.globalAlpha = 1;
  }
}

function trace(g, xs, values, x, y) {
  g.beginPath();
  let pen = false;
  for (let i = 0; i < values.length; i++) {
    if (values[i] === null) { pen = false; continue; }
    if (pen) g.lineTo(x(xs[i]), y(values[i])); else g.moveTo(x(xs[i]), y(values[i]));
    pen = true;
  }
  g.stroke();
}

function stroke(g, points) {
  g.beginPath();
  points.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
  g.stroke();
}

function diamond(g, x, y, r) {
  g.beginPath();
  g.moveTo(x, y - r); g.lineTo(x + r, y); g.lineTo(x, y + r); g.lineTo(x - r, y); g.closePath();
  g.fill();
}
