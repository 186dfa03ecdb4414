// The network as a figure: its stages as bars, whose height is the size of the feature maps and whose width the number of
// channels. A click shows the maps of a stage; the last stages show how logits and probabilities give the label. The stages
// are one stop of the Tab key.

const TITLES = { input: "image", bottleneck: "bottleneck", logits: "logits", softmax: "softmax", sigmoid: "sigmoid", label: "label" };
const STAGE_DESCRIPTIONS = {
  input: "The input: each modality normalised, zeros outside the head.",
  encoder: "On the way down each stage has a larger receptive field. Early maps respond to edges and to bright or dark spots.",
  bottleneck: "The coarsest maps: few voxels, each with a receptive field that covers a large part of the sub-volume.",
  decoder: "On the way up coarse maps are upsampled and concatenated with the fine maps of the same level: context and exact position together.",
  logits: "One number per class and voxel: the last convolution, before any activation. Only differences between classes matter.",
  softmax: "exp of each logit over the sum of all: probabilities that add up to 1. The loss is computed from them.",
  sigmoid: "1 / (1 + exp(−logit)) of each region by itself: a voxel may be in several. The loss is computed from them.",
  label: "The class with the largest probability, which is the class with the largest logit.",
};

// Where the network has regions.
const REGION_DESCRIPTIONS = {
  logits: "One number per region and voxel: the last convolution, before any activation. Above 0 the voxel is in the region.",
  label: "Painted region by region, each over those before it, where its probability is above one half.",
};

class Network extends Figure {
  build(data) {
    this.stages = [...data.stages, { name: "label", kind: "label", level: 0, channels: 1, size: data.stages[0].size, maps: [] }];
    this.chosen = data.maps ? this.inner().at(-1).name : null;  // the last stage before the logits
    this.bundle = null;
    this.marked = null;
    this.picture = createSvg("svg", { role: "group", "aria-label": "The network, from image to label" });
    this.stops = new RovingFocus(this.picture, () => [...this.picture.querySelectorAll("[tabindex]")], true);
    this.maps = createElement("div", "maps");
    this.description = createElement("div", "description");
    this.root.append(this.picture, this.description, this.maps);
    if (data.maps) this.fetchMaps(data.maps);
  }

  async fetchMaps(url) {
    this.error = "";
    try {
      const response = await fetch(url, { credentials: "same-origin" });
      if (!response.ok) throw new Error(String(response.status));
      this.bundle = await response.json();
      const logits = decodeBase64(this.bundle.logits);
      this.logits = new Float32Array(logits.buffer);
      this.truth = this.bundle.truth ? decodeBase64(this.bundle.truth) : null;
      [this.columns, this.rows] = this.bundle.sub_volume.size;
      this.marked = [this.columns >> 1, this.rows >> 1];
    } catch {
      this.error = "The feature maps could not be loaded. Reload the page.";
    }
    this.draw();
  }

  choose(name) {
    this.chosen = name;
    this.draw();
  }

  stage(name) { return this.stages.find((s) => s.name === name); }

  inner() { return this.stages.filter((s) => ["encoder", "bottleneck", "decoder"].includes(s.kind)); }

  draw() {
    this.drawFigure();
    this.root.dataset.stage = this.chosen ?? "";
    if (!this.data.maps) {
      this.description.textContent = "";
      this.maps.replaceChildren();
      return;
    }
    const stage = this.stage(this.chosen);
    if (!this.bundle) {
      this.description.textContent = this.error || "Loading the feature maps";
      return;
    }
    this.description.textContent = (this.data.regions ? REGION_DESCRIPTIONS[stage.kind] : null) ?? STAGE_DESCRIPTIONS[stage.kind];
    if (this.shown !== this.chosen) this.drawMaps(stage);
    this.markVoxel();
  }

  // ---- the figure -----------------------------------------------------------------------------------------------

  drawFigure() {
    const inner = this.inner(), depth = Math.max(...this.stages.map((s) => s.level));
    const step = Math.min(96, 560 / Math.max(1, inner.length - 1)), first = 168;
    const last = first + (inner.length - 1) * step, figureWidth = last + 340, boxes = new Map();
    const scale = Math.min(1, (this.picture.clientWidth || figureWidth) / figureWidth), font = Math.max(12.5, 11 / scale);  // at least 11 pixels on the screen
    const levelHeight = 100 + 6 * (font - 12.5);
    this.lineHeight = 1.2 * font;
    this.picture.style.fontSize = `${font}px`;
    for (const s of this.stages) {
      const x = { input: 58, logits: last + 104, softmax: last + 196, sigmoid: last + 196, label: last + 284 }[s.kind] ?? first + inner.indexOf(s) * step;
      boxes.set(s.name, { x, y: 48 + s.level * levelHeight, height: 58 * 0.72 ** s.level, width: 8 + 5 * Math.log2(s.channels + 1) });
    }
    this.picture.setAttribute("viewBox", `0 0 ${figureWidth} ${48 + depth * levelHeight + 21 + 3 * this.lineHeight}`);
    const parts = [arrowHead()];
    const arrow = (from, to, style = "") => parts.push(createSvg("path", { class: `arrow ${style}`, d: `M${from.join(" ")} L${to.join(" ")}`, "marker-end": "url(#head)" }));
    this.stages.forEach((s, n) => {
      const next = this.stages[n + 1], box = boxes.get(s.name);
      if (next) {
        const nextBox = boxes.get(next.name), fromInput = this.data.detail && next.level === 1 && s.kind === "encoder";
        arrow(...between(fromInput ? boxes.get("input") : box, nextBox));  // full_resolution "detail": the image enters level 1
      }
      const decoder = s.kind === "encoder" && s === inner.findLast((e) => e.kind === "encoder" && e.level === s.level) ? boxes.get(`decoder-${s.level}`) : null;
      if (decoder) {
        arrow([box.x + box.width / 2 + 8, box.y], [decoder.x - decoder.width / 2 - 10, decoder.y], "skip");
      }
    });
    for (const s of this.stages) parts.push(this.node(s, boxes.get(s.name)));
    const focused = this.picture.getRootNode().activeElement?.dataset?.stage;
    this.picture.replaceChildren(...parts);
    this.stops.renew(this.picture.querySelector(`[data-stage="${this.chosen}"]`));
    if (focused) this.picture.querySelector(`[data-stage="${focused}"]`)?.focus();
  }

  node(s, { x, y, height, width }) {
    const title = TITLES[s.kind] ?? `level ${s.level}`, name = TITLES[s.kind] ?? `${s.kind} level ${s.level}`;
    const channels = s.kind === "label" ? "" : `${s.channels} ${["logits", "softmax", "sigmoid"].includes(s.kind) ? (this.data.regions ? "regions" : "classes") : s.channels === 1 ? "channel" : "channels"}`;
    const group = createSvg("g", { class: "node", "data-stage": s.name, "aria-label": `${name}, ${channels}, ${s.size.join(" × ")} voxels` });
    group.append(
      createSvg("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: 3 }),
      createSvg("text", { x, y: y + height / 2 + this.lineHeight, "text-anchor": "middle" }, title),
      createSvg("text", { class: "faint", x, y: y + height / 2 + 2 * this.lineHeight, "text-anchor": "middle" }, channels),
    );
    if (["input", "encoder", "bottleneck"].includes(s.kind)) group.append(createSvg("text", { class: "faint", x, y: y + height / 2 + 3 * this.lineHeight, "text-anchor": "middle" }, s.size.join(" × ")));
    if (this.data.maps) {
      group.setAttribute("tabindex", "-1"); // see RovingFocus
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
    this.shown = this.chosen;
    const tiles = createElement("div", "tiles"), perClass = ["logits", "softmax", "sigmoid", "label"].includes(stage.kind);
    tiles.classList.toggle("large", perClass || stage.kind === "input");
    if (stage.kind === "label") {
      tiles.append(this.tile("prediction", (canvas) => this.renderLabels(canvas, this.labels())));
      if (this.truth) tiles.append(this.tile("truth", (canvas) => this.renderLabels(canvas, this.truth)));
    } else {
      for (const m of stage.maps) {
        const name = m.name || `channel ${m.channel}`, c = this.channels.find((k) => perClass && k.name === m.name);
        tiles.append(this.tile(name, (canvas) => this.renderMap(canvas, m.file), `${shortNumber(m.min)} to ${shortNumber(m.max)}`, c?.colour));
      }
    }
    const parts = [tiles];
    if (stage.maps.length < stage.channels && stage.kind !== "label") parts.push(createElement("div", "small", `${stage.maps.length} of ${stage.channels} channels: those with the largest variance in this slice.`));
    if (perClass) parts.push((this.steps = createElement("div", "steps")));
    else this.steps = null;
    this.maps.replaceChildren(...parts);
  }

  tile(name, render, range = "", colour = "") {
    const figure = createElement("figure", "tile"), holder = createElement("div", "holder"), canvas = createElement("canvas"), cross = createElement("i", "cross");
    const caption = createElement("figcaption", "", name);
    if (colour) {
      const mark = createElement("i");
      mark.style.background = colour;
      caption.prepend(mark);
    }
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}${range ? `, ${range}` : ""}; arrow keys move the marked voxel`);
    render(canvas);
    const moveToPointer = (e) => {
      const box = canvas.getBoundingClientRect();
      this.move(Math.floor(((e.clientX - box.left) / box.width) * this.columns), Math.floor(((e.clientY - box.top) / box.height) * this.rows));
    };
    canvas.addEventListener("pointermove", moveToPointer);
    canvas.addEventListener("pointerdown", moveToPointer);
    canvas.addEventListener("keydown", (e) => {
      const step = ARROW_STEPS[e.key];
      if (!step) return;
      e.preventDefault();
      this.move(this.marked[0] + step[0], this.marked[1] + step[1]);
    });
    holder.append(canvas, cross);
    figure.append(holder, caption);
    if (range) figure.append(createElement("div", "small", range));
    return figure;
  }

  move(column, row) {
    this.marked = [clamp(column, 0, this.columns - 1), clamp(row, 0, this.rows - 1)];
    this.markVoxel();
  }

  markVoxel() {
    if (!this.marked) return;
    for (const cross of this.maps.querySelectorAll(".cross")) {
      cross.style.left = `${(100 * (this.marked[0] + 0.5)) / this.columns}%`;
      cross.style.top = `${(100 * (this.marked[1] + 0.5)) / this.rows}%`;
    }
    if (this.steps) this.renderSteps();
  }

  renderMap(canvas, file) {
    const picture = new Image();
    picture.onload = () => {
      canvas.width = picture.naturalWidth;
      canvas.height = picture.naturalHeight;
      canvas.getContext("2d").drawImage(picture, 0, 0);
    };
    picture.src = `data:image/png;base64,${this.bundle.files[file]}`;
  }

  renderLabels(canvas, labels) {
    canvas.width = this.columns;
    canvas.height = this.rows;
    const g = canvas.getContext("2d"), image = g.createImageData(this.columns, this.rows);
    const colours = this.data.classes.map((c, n) => (n ? rgb(c.colour) : [11, 14, 19]));
    labels.forEach((label, n) => {
      image.data.set(colours[label] ?? rgb(classAt(this.data.classes, label).colour), 4 * n);
      image.data[4 * n + 3] = 255;
    });
    g.putImageData(image, 0, 0);
  }

  // ---- from logits to a label ----------------------------------------------------------------------------------

  // A sentence on the truth of a voxel; one with the ignore label has no loss.
  describeTruth(label, probabilities) {
    if (!this.data.classes[label]) return " The truth leaves this voxel out.";
    if (this.data.regions) return ` The truth here is ${this.data.classes[label].name}.`;
    const p = probabilities[label];
    return ` The truth here is ${this.data.classes[label].name}: cross-entropy −ln ${p.toFixed(3)} = ${(-Math.log(Math.max(p, 1e-12))).toFixed(3)}.`;
  }

  logitsAt(index) {
    const count = this.columns * this.rows;
    return this.channels.map((_, c) => this.logits[c * count + index]);
  }

  // The channels of the network: classes, or regions that may overlap.
  get channels() {
    return this.data.regions ?? this.data.classes;
  }

  // The class of a voxel: that of the largest logit, or that of the last region with a probability above one half.
  labelOf(logits) {
    if (!this.data.regions) return argmax(logits);
    return this.data.regions.reduce((label, region, n) => (sigmoid(logits[n]) > 0.5 ? region.painted : label), 0);
  }

  labels() {
    return Uint8Array.from({ length: this.columns * this.rows }, (_, index) => this.labelOf(this.logitsAt(index)));
  }

  renderSteps() {
    const [column, row] = this.marked, index = row * this.columns + column, logits = this.logitsAt(index);
    const regions = this.data.regions, probabilities = regions ? logits.map(sigmoid) : softmax(logits);
    const label = this.labelOf(logits), maxAbsolute = Math.max(...logits.map(Math.abs), 1e-6);
    const table = createElement("table"), head = createElement("tr");
    const titles = regions ? ["region", "logit z", "exp(−z)", "sigmoid p", "painted as"] : ["class", "logit z", "exp(z − largest z)", "softmax p", "label"];
    head.append(...titles.map((t) => createElement("th", "", t)));
    const maxLogit = Math.max(...logits);
    const rows = this.channels.map((c, n) => {
      const chosen = regions ? probabilities[n] > 0.5 : n === label, className = this.data.classes[regions ? c.painted : n].name;
      const line = createElement("tr", chosen ? "best" : ""), name = createElement("td"), mark = createElement("i");
      mark.style.background = c.colour;
      name.append(mark, c.name);
      line.append(
        name, valueBar(signed(logits[n]), logits[n] / maxAbsolute, c.colour, true),
        createElement("td", "", Math.exp(regions ? -logits[n] : logits[n] - maxLogit).toFixed(3)), valueBar(probabilities[n].toFixed(3), probabilities[n], c.colour),
        createElement("td", "", chosen ? className : ""),
      );
      return line;
    });
    table.append(head, ...rows);
    const truth = this.truth ? this.describeTruth(this.truth[index], probabilities) : "";
    this.steps.replaceChildren(table, createElement("div", "small", `The voxel marked in the maps.${truth}`));
    Object.assign(this.root.dataset, { at: this.marked.join(","), logits: logits.map((v) => v.toFixed(5)).join(","), softmax: probabilities.map((v) => v.toFixed(6)).join(","), label });
  }
}

function softmax(values) {
  const max = Math.max(...values), exps = values.map((v) => Math.exp(v - max)), sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((v) => v / sum);
}

const sigmoid = (value) => 1 / (1 + Math.exp(-value));
const argmax = (values) => values.indexOf(Math.max(...values));
const shortNumber = (v) => v.toFixed(Math.abs(v) < 10 ? 2 : 0).replace("-", "−");
const signed = (v) => v.toFixed(2).replace("-", "−");

// A table cell with a bar, from the left or from the middle, and its value.
function valueBar(text, share, colour, fromMiddle = false) {
  const cell = createElement("td", "value-bar"), track = createElement("span", "track"), filled = createElement("i", fromMiddle ? "from-middle" : "");
  filled.style.width = `${fromMiddle ? 50 * Math.abs(share) : 100 * share}%`;
  if (fromMiddle) filled.style.marginLeft = `${50 + 50 * Math.min(0, share)}%`;
  filled.style.background = colour;
  track.append(filled);
  cell.append(track, createElement("span", "number", text));
  return cell;
}

// The ends of an arrow between two stages: horizontal within a level, else between levels.
function between(from, to) {
  if (from.y === to.y) return [[from.x + from.width / 2 + 8, from.y], [to.x - to.width / 2 - 10, to.y]];
  const x = (a, b) => a.x + Math.sign(b.x - a.x) * (a.width / 2 + 7);
  return [[x(from, to), from.y + (to.y > from.y ? from.height / 4 : 0)], [x(to, from), to.y + (to.y < from.y ? to.height / 4 : 0)]];
}

function arrowHead() {
  const defs = createSvg("defs"), marker = createSvg("marker", { id: "head", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto-start-reverse" });
  marker.append(createSvg("path", { d: "M0 0 L8 4 L0 8 z", class: "tip" }));
  defs.append(marker);
  return defs;
}

export default component(Network);
