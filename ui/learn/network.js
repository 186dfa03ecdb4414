// The network as a figure: its stages as bars (as high as their maps are large, as wide as they have channels). A click
// shows the feature maps of a stage; the last ones lead from pre-activations over the softmax to the label of a voxel.

const TITLES = { input: "image", bottleneck: "bottom", logits: "pre-activations", softmax: "softmax", label: "label" };
const SAY = {
  input: "What the network is given: each modality brought to a common scale, zeros outside the head.",
  encoder: "On the way down each stage looks at a larger neighbourhood. Early maps answer to edges and to bright or dark spots.",
  bottleneck: "The coarsest maps: few voxels, each of which knows about a large part of the sub-volume.",
  decoder: "On the way up coarse maps are enlarged and joined with the fine ones beside them, so that what it is and where exactly come together.",
  logits: "One number per class and voxel, the last convolution before any activation. It can be any number; only differences between classes matter.",
  softmax: "exp of each pre-activation over the sum of all: numbers from 0 to 1 that add up to 1. The loss is computed from these.",
  label: "The class with the largest number. The softmax does not change which one is largest, so it can be read off the pre-activations.",
};

class Network extends Base {
  build(data) {
    this.stages = [...data.stages, { name: "label", kind: "label", level: 0, channels: 1, size: data.stages[0].size, maps: [] }];
    this.chosen = data.maps ? "decoder-0" : null;
    this.bundle = null;
    this.at = null;
    this.picture = svg("svg", { role: "group", "aria-label": "The network, from image to label" });
    this.maps = make("div", "maps");
    this.say = make("div", "say");
    this.root.append(this.picture, this.say, this.maps);
    if (data.maps) this.fetch(data.maps);
  }

  async fetch(url) {
    this.problem = "";
    try {
      const answer = await fetch(url, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(String(answer.status));
      this.bundle = await answer.json();
      const logits = bytes(this.bundle.logits);
      this.logits = new Float32Array(logits.buffer);
      this.truth = this.bundle.truth ? bytes(this.bundle.truth) : null;
      [this.columns, this.rows] = this.bundle.sub_volume.size;
      this.at = [this.columns >> 1, this.rows >> 1];
    } catch {
      this.problem = "The feature maps did not arrive. Load the page again.";
    }
    this.draw();
  }

  choose(name) {
    this.chosen = name;
    this.draw();
  }

  stage(name) { return this.stages.find((s) => s.name === name); }

  draw() {
    this.drawFigure();
    this.root.dataset.stage = this.chosen ?? "";
    if (!this.data.maps) {
      this.say.textContent = "";
      this.maps.replaceChildren();
      return;
    }
    const stage = this.stage(this.chosen);
    if (!this.bundle) {
      this.say.textContent = this.problem || "Loading the feature maps";
      return;
    }
    this.say.textContent = SAY[stage.kind];
    if (this.drawn !== this.chosen) this.drawMaps(stage);
    this.mark();
  }

  // ---- the figure -----------------------------------------------------------------------------------------------

  drawFigure() {
    const depth = Math.max(...this.stages.map((s) => s.level)), step = Math.min(96, 560 / (2 * depth));
    const first = 168, last = first + 2 * depth * step, wide = last + 340, place = new Map();
    const scale = Math.min(1, (this.picture.clientWidth || wide) / wide), font = Math.max(12.5, 11 / scale);  // readable when small
    const row = 100 + 6 * (font - 12.5);
    this.line = 1.2 * font;
    this.picture.style.fontSize = `${font}px`;
    for (const s of this.stages) {
      let x = { input: 58, logits: last + 104, softmax: last + 196, label: last + 284 }[s.kind];
      if (s.kind === "encoder" || s.kind === "bottleneck") x = first + s.level * step;
      if (s.kind === "decoder") x = last - s.level * step;
      place.set(s.name, { x, y: 48 + s.level * row, high: 58 * 0.72 ** s.level, wide: 8 + 5 * Math.log2(s.channels + 1) });
    }
    this.picture.setAttribute("viewBox", `0 0 ${wide} ${48 + depth * row + 21 + 3 * this.line}`);
    const parts = [arrowHead()];
    const arrow = (from, to, style = "") => parts.push(svg("path", { class: `arrow ${style}`, d: `M${from.join(" ")} L${to.join(" ")}`, "marker-end": "url(#head)" }));
    this.stages.forEach((s, n) => {
      const next = this.stages[n + 1], here = place.get(s.name);
      if (next) {
        const there = place.get(next.name), aside = this.data.detail && next.level === 1 && s.kind === "encoder";
        arrow(...between(aside ? place.get("input") : here, there));  // full resolution only in detail: the image enters below it
      }
      if (s.kind === "encoder") {
        const across = place.get(`decoder-${s.level}`);
        arrow([here.x + here.wide / 2 + 8, here.y], [across.x - across.wide / 2 - 10, across.y], "skip");
      }
    });
    for (const s of this.stages) parts.push(this.node(s, place.get(s.name)));
    const focused = this.picture.getRootNode().activeElement?.dataset?.stage;
    this.picture.replaceChildren(...parts);
    if (focused) this.picture.querySelector(`[data-stage="${focused}"]`)?.focus();
  }

  node(s, { x, y, high, wide }) {
    const title = TITLES[s.kind] ?? `level ${s.level}`, channels = s.kind === "label" ? "" : `${s.channels} ${s.kind === "logits" || s.kind === "softmax" ? "classes" : s.channels === 1 ? "channel" : "channels"}`;
    const group = svg("g", { class: "node", "data-stage": s.name, "aria-label": `${s.kind} ${title}, ${channels}, ${s.size.join(" × ")} voxels` });
    group.append(
      svg("rect", { x: x - wide / 2, y: y - high / 2, width: wide, height: high, rx: 3 }),
      svg("text", { x, y: y + high / 2 + this.line, "text-anchor": "middle" }, title),
      svg("text", { class: "faint", x, y: y + high / 2 + 2 * this.line, "text-anchor": "middle" }, channels),
    );
    if (["input", "encoder", "bottleneck"].includes(s.kind)) group.append(svg("text", { class: "faint", x, y: y + high / 2 + 3 * this.line, "text-anchor": "middle" }, s.size.join(" × ")));
    if (this.data.maps) {
      group.setAttribute("tabindex", "0");
      group.setAttribute("role", "button");
      group.setAttribute("aria-pressed", String(s.name === this.chosen));
      group.addEventListener("click", () => this.choose(s.name));
      group.addEventListener("keydown", (e) => {
        if (e.key !== "Enter" && e.key !== " ") return;
        e.preventDefault();
        this.choose(s.name);
      });
    }
    return group;
  }

  // ---- the maps of a stage --------------------------------------------------------------------------------------

  drawMaps(stage) {
    this.drawn = this.chosen;
    const tiles = make("div", "tiles"), ends = ["logits", "softmax", "label"].includes(stage.kind);
    tiles.classList.toggle("large", ends || stage.kind === "input");
    if (stage.kind === "label") {
      tiles.append(this.tile("prediction", (canvas) => this.paint(canvas, this.labels())));
      if (this.truth) tiles.append(this.tile("truth", (canvas) => this.paint(canvas, this.truth)));
    } else {
      for (const m of stage.maps) {
        const name = m.name || `channel ${m.channel}`, c = this.data.classes.find((k) => ends && k.name === m.name);
        tiles.append(this.tile(name, (canvas) => this.pour(canvas, m.file), `${short(m.min)} to ${short(m.max)}`, c?.colour));
      }
    }
    const parts = [tiles];
    if (stage.maps.length < stage.channels && stage.kind !== "label") parts.push(make("div", "small", `${stage.maps.length} of ${stage.channels} channels: those that vary most in this slice.`));
    if (ends) parts.push((this.steps = make("div", "steps")));
    else this.steps = null;
    this.maps.replaceChildren(...parts);
  }

  tile(name, fill, range = "", colour = "") {
    const figure = make("figure", "tile"), holder = make("div", "holder"), canvas = make("canvas"), cross = make("i", "cross");
    const caption = make("figcaption", "", name);
    if (colour) {
      const mark = make("i");
      mark.style.background = colour;
      caption.prepend(mark);
    }
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}${range ? `, ${range}` : ""}; arrow keys move the marked voxel`);
    fill(canvas);
    const place = (e) => {
      const box = canvas.getBoundingClientRect();
      this.move(Math.floor(((e.clientX - box.left) / box.width) * this.columns), Math.floor(((e.clientY - box.top) / box.height) * this.rows));
    };
    canvas.addEventListener("pointermove", place);
    canvas.addEventListener("pointerdown", place);
    canvas.addEventListener("keydown", (e) => {
      const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[e.key];
      if (!step) return;
      e.preventDefault();
      this.move(this.at[0] + step[0], this.at[1] + step[1]);
    });
    holder.append(canvas, cross);
    figure.append(holder, caption);
    if (range) figure.append(make("div", "small", range));
    return figure;
  }

  move(column, row) {
    this.at = [clamp(column, 0, this.columns - 1), clamp(row, 0, this.rows - 1)];
    this.mark();
  }

  mark() {
    if (!this.at) return;
    for (const cross of this.maps.querySelectorAll(".cross")) {
      cross.style.left = `${(100 * (this.at[0] + 0.5)) / this.columns}%`;
      cross.style.top = `${(100 * (this.at[1] + 0.5)) / this.rows}%`;
    }
    if (this.steps) this.explain();
  }

  pour(canvas, file) {
    const picture = new Image();
    picture.onload = () => {
      canvas.width = picture.naturalWidth;
      canvas.height = picture.naturalHeight;
      canvas.getContext("2d").drawImage(picture, 0, 0);
    };
    picture.src = `data:image/png;base64,${this.bundle.files[file]}`;
  }

  paint(canvas, labels) {
    canvas.width = this.columns;
    canvas.height = this.rows;
    const g = canvas.getContext("2d"), image = g.createImageData(this.columns, this.rows);
    const colours = this.data.classes.map((c, n) => (n ? rgb(c.colour) : [11, 14, 19]));
    labels.forEach((label, n) => {
      image.data.set(colours[label], 4 * n);
      image.data[4 * n + 3] = 255;
    });
    g.putImageData(image, 0, 0);
  }

  // ---- from numbers to a label ----------------------------------------------------------------------------------

  numbers(at) {
    const count = this.columns * this.rows;
    return this.data.classes.map((_, c) => this.logits[c * count + at]);
  }

  labels() {
    return Uint8Array.from({ length: this.columns * this.rows }, (_, at) => largest(this.numbers(at)));
  }

  explain() {
    const [column, row] = this.at, at = row * this.columns + column, logits = this.numbers(at);
    const shares = softmax(logits), best = largest(logits), reach = Math.max(...logits.map(Math.abs), 1e-6);
    const table = make("table"), head = make("tr");
    head.append(...["class", "pre-activation z", "exp(z − largest z)", "softmax p", "label"].map((t) => make("th", "", t)));
    const most = Math.max(...logits);
    const rows = this.data.classes.map((c, n) => {
      const line = make("tr", n === best ? "best" : ""), name = make("td"), mark = make("i");
      mark.style.background = c.colour;
      name.append(mark, c.name);
      line.append(
        name, gauge(signed(logits[n]), logits[n] / reach, c.colour, true),
        make("td", "", Math.exp(logits[n] - most).toFixed(3)), gauge(shares[n].toFixed(3), shares[n], c.colour),
        make("td", "", n === best ? c.name : ""),
      );
      return line;
    });
    table.append(head, ...rows);
    const told = this.truth ? ` The truth here is ${this.data.classes[this.truth[at]].name}: cross-entropy −ln ${shares[this.truth[at]].toFixed(3)} = ${(-Math.log(Math.max(shares[this.truth[at]], 1e-12))).toFixed(3)}.` : "";
    this.steps.replaceChildren(table, make("div", "small", `The voxel marked in the pictures.${told}`));
    Object.assign(this.root.dataset, { at: this.at.join(","), logits: logits.map((v) => v.toFixed(5)).join(","), softmax: shares.map((v) => v.toFixed(6)).join(","), label: best });
  }
}

function softmax(values) {
  const most = Math.max(...values), raised = values.map((v) => Math.exp(v - most)), sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((v) => v / sum);
}

const largest = (values) => values.indexOf(Math.max(...values));
const short = (v) => v.toFixed(Math.abs(v) < 10 ? 2 : 0).replace("-", "−");
const signed = (v) => v.toFixed(2).replace("-", "−");

// A bar from the left, or to both sides of the middle, and its number.
function gauge(text, share, colour, fromMiddle = false) {
  const cell = make("td", "gauge"), track = make("span", "track"), filled = make("i", fromMiddle ? "from-middle" : "");
  filled.style.width = `${fromMiddle ? 50 * Math.abs(share) : 100 * share}%`;
  if (fromMiddle) filled.style.marginLeft = `${50 + 50 * Math.min(0, share)}%`;
  filled.style.background = colour;
  track.append(filled);
  cell.append(track, make("span", "number", text));
  return cell;
}

// From the edge of one bar to that of the next: sideways within a level, else from below to above or the other way.
function between(from, to) {
  if (from.y === to.y) return [[from.x + from.wide / 2 + 8, from.y], [to.x - to.wide / 2 - 10, to.y]];
  const x = (a, b) => a.x + Math.sign(b.x - a.x) * (a.wide / 2 + 7);
  return [[x(from, to), from.y + (to.y > from.y ? from.high / 4 : 0)], [x(to, from), to.y + (to.y < from.y ? to.high / 4 : 0)]];
}

function arrowHead() {
  const defs = svg("defs"), marker = svg("marker", { id: "head", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto-start-reverse" });
  marker.append(svg("path", { d: "M0 0 L8 4 L0 8 z", class: "tip" }));
  defs.append(marker);
  return defs;
}

export default component(Network);
