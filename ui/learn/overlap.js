// A predicted mask that is dragged over the true one; Dice, accuracy, cross-entropy and Dice loss of the two.

class Overlap extends Figure {
  build(data) {
    this.structure = data.masks[0];
    this.confidence = 0.9;
    const bar = createElement("div", "bar");
    if (data.masks.length > 1) {
      bar.append(buttonGroup("Structure", data.masks.map((s, n) => [n, s.name]), 0, (v) => { this.structure = data.masks[Number(v)]; this.loadTruth(); this.reset(); }));
    }
    this.growthSlider = slider("Grow or shrink", -4, 4, 1, 0, (v) => (v ? `${v > 0 ? "+" : "−"}${Math.abs(v)} voxels` : "unchanged"), (v) => { this.growth = v; this.empty = false; this.draw(); });
    const confidenceSlider = slider("Confidence", 0.5, 0.99, 0.01, this.confidence, (v) => v.toFixed(2), (v) => { this.confidence = v; this.draw(); });
    bar.append(this.growthSlider, confidenceSlider, button("Reset", () => this.reset()), button("Empty prediction", () => { this.empty = true; this.draw(); }));
    const body = createElement("div", "body"), left = createElement("div"), right = createElement("div");
    this.canvas = createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "The predicted mask over the true one; drag it, or move it with the arrow keys");
    this.legend = createElement("div");
    left.append(this.canvas, this.legend);
    this.values = valueList([
      ["dice", "Dice"], ["accuracy", "accuracy"], ["ce", "cross-entropy, mean over voxels"],
      ["dice_loss", "Dice loss, background counted"], ["sum", "Dice loss + cross-entropy"],
    ]);
    this.formula = createElement("div", "formula");
    right.append(this.values, this.formula);
    body.append(left, right);
    this.root.append(bar, body);
    this.loadTruth();
    this.reset(false);
    this.addDragging();
  }

  loadTruth() {
    const { width, height, mask } = this.structure;
    this.truth = unpackBits(mask, width * height);
    this.grown = new Map([[0, this.truth]]);
  }

  // Without growth or shift; at first shifted a little, and rendered later.
  reset(draw = true) {
    this.offset = draw ? [0, 0] : [Math.round(this.structure.width / 9), Math.round(this.structure.height / 12)];
    this.growth = 0;
    this.empty = false;
    this.growthSlider.set(0);
    if (draw) this.draw();
  }

  addDragging() {
    const c = this.canvas;
    let start = null;  // pointer and offset at the begin of a drag
    c.addEventListener("pointerdown", (e) => { c.setPointerCapture(e.pointerId); start = [e.clientX, e.clientY, ...this.offset]; });
    c.addEventListener("pointermove", (e) => {
      if (!start) return;
      this.offset = [start[2] + Math.round((e.clientX - start[0]) / this.cell), start[3] + Math.round((e.clientY - start[1]) / this.cell)];
      this.empty = false;
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) c.addEventListener(end, () => { start = null; });
    c.addEventListener("keydown", (e) => {
      const step = ARROW_STEPS[e.key];
      if (!step) return;
      e.preventDefault();
      this.offset = [this.offset[0] + step[0], this.offset[1] + step[1]];
      this.empty = false;
      this.draw();
    });
  }

  // The true mask, grown or shrunk, then shifted; cropped at the border of the image.
  prediction() {
    const { width, height } = this.structure, shifted = new Uint8Array(width * height);
    if (this.empty) return shifted;
    if (!this.grown.has(this.growth)) this.grown.set(this.growth, resized(this.truth, width, height, this.growth));
    const source = this.grown.get(this.growth), [dx, dy] = this.offset;
    for (let y = Math.max(0, dy); y < Math.min(height, height + dy); y++) {
      for (let x = Math.max(0, dx); x < Math.min(width, width + dx); x++) shifted[y * width + x] = source[(y - dy) * width + x - dx];
    }
    return shifted;
  }

  draw() {
    const { width, height, colour } = this.structure, available = Math.min(this.canvas.parentElement.clientWidth, 620);
    if (!available) return;
    const mask = this.prediction(), scores = computeScores(this.truth, mask, this.confidence);
    const cell = (this.cell = Math.max(2, Math.floor(Math.min(available / width, 510 / height))));
    const g = canvasContext(this.canvas, cell * width, cell * height);
    g.fillStyle = MASKS.background;
    g.fillRect(0, 0, cell * width, cell * height);
    const gap = cell > 4 ? 1 : 0;
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const t = this.truth[y * width + x], p = mask[y * width + x];
      if (!t && !p) continue;
      g.fillStyle = t && p ? MASKS.both : t ? MASKS.falseNegative : MASKS.falsePositive;
      g.fillRect(x * cell, y * cell, cell - gap, cell - gap);
    }
    g.strokeStyle = colour;
    g.lineWidth = cell > 4 ? 2 : 1;
    g.beginPath();
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      if (!this.truth[y * width + x]) continue;
      if (!this.truth[y * width + x - 1] || x === 0) line(g, x * cell, y * cell, x * cell, (y + 1) * cell);
      if (!this.truth[y * width + x + 1] || x === width - 1) line(g, (x + 1) * cell, y * cell, (x + 1) * cell, (y + 1) * cell);
      if (y === 0 || !this.truth[(y - 1) * width + x]) line(g, x * cell, y * cell, (x + 1) * cell, y * cell);
      if (y === height - 1 || !this.truth[(y + 1) * width + x]) line(g, x * cell, (y + 1) * cell, (x + 1) * cell, (y + 1) * cell);
    }
    g.stroke();
    this.legend.replaceChildren(colourLegend([
      [MASKS.both, `in both: ${scores.tp}`], [MASKS.falseNegative, `false negative: ${scores.fn}`],
      [MASKS.falsePositive, `false positive: ${scores.fp}`], [MASKS.background, `in neither: ${scores.tn}`],
    ]));
    this.showScores(scores);
    Object.assign(this.root.dataset, {
      width, height, truth: packBits(this.truth), prediction: packBits(mask), confidence: this.confidence,
      dice: scores.dice ?? "", accuracy: scores.accuracy, ce: scores.ce, loss: scores.diceLoss,
    });
  }

  showScores(f) {
    const correct = this.confidence.toFixed(2), wrong = (1 - this.confidence).toFixed(2), n = f.tp + f.fn + f.fp + f.tn;
    this.values.set("dice", f.dice === null ? "–" : f.dice.toFixed(3));
    this.values.set("accuracy", (100 * f.accuracy).toFixed(1) + " %");
    this.values.set("ce", f.ce.toFixed(3));
    this.values.set("dice_loss", f.diceLoss.toFixed(3));
    this.values.set("sum", (f.ce + f.diceLoss).toFixed(3));
    this.formula.replaceChildren(...[
      ["Dice", `2 × ${f.tp} / (${f.tp + f.fn} + ${f.tp + f.fp})`],
      ["accuracy", `(${f.tp} + ${f.tn}) / ${n}`],
      ["cross-entropy", `−(${f.tp + f.tn} ln ${correct} + ${f.fn + f.fp} ln ${wrong}) / ${n}`],
    ].map(([name, text]) => {
      const line = createElement("div");
      line.append(createElement("span", "label", name), createElement("code", "", text));
      return line;
    }));
  }
}

// Scores of two masks for a network that gives the structure the probability c inside its mask and 1 - c outside.
function computeScores(truth, mask, c) {
  let tp = 0, fp = 0, fn = 0, tn = 0;
  for (let n = 0; n < truth.length; n++) {
    if (truth[n]) mask[n] ? tp++ : fn++;
    else mask[n] ? fp++ : tn++;
  }
  const count = truth.length, sizes = 2 * tp + fp + fn;
  const structure = diceScore(c * tp + (1 - c) * fn, c * (tp + fp) + (1 - c) * (fn + tn), tp + fn, count);
  const background = diceScore(c * tn + (1 - c) * fp, c * (tn + fn) + (1 - c) * (tp + fp), tn + fp, count);
  return {
    tp, fp, fn, tn,
    dice: sizes ? (2 * tp) / sizes : null,
    accuracy: (tp + tn) / count,
    ce: -((tp + tn) * Math.log(c) + (fp + fn) * Math.log(1 - c)) / count,
    diceLoss: 1 - (structure + background) / 2,
  };
}

// The term of one class of the Dice loss, from the sums of p t, p and t over the voxels (core/losses/dice.py).
function diceScore(intersection, predicted, truth, count) {
  const smooth = 1e-5;
  return truth ? (2 * intersection + smooth) / (predicted + truth + smooth) : 1 - predicted / count;
}

// The mask grown by ``by`` voxels in every direction; negative: shrunk, that is, its complement grown.
function resized(mask, width, height, by) {
  const radius = Math.abs(by), grown = by > 0 ? 1 : 0, result = mask.slice();
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (mask[y * width + x] !== grown) continue;
    for (let dy = -radius; dy <= radius; dy++) for (let dx = -radius; dx <= radius; dx++) {
      const inside = y + dy >= 0 && y + dy < height && x + dx >= 0 && x + dx < width;
      if (inside && dx * dx + dy * dy <= radius * radius) result[(y + dy) * width + x + dx] = grown;
    }
  }
  return result;
}

function line(g, x0, y0, x1, y1) { g.moveTo(x0, y0); g.lineTo(x1, y1); }

export default component(Overlap);
