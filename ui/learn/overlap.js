// A mask that is dragged over the true one, and what Dice, accuracy, cross-entropy and the Dice loss make of it.

class Overlap extends Base {
  build(data) {
    this.shape = data.shapes[0];
    this.confidence = 0.9;
    const bar = make("div", "bar");
    if (data.shapes.length > 1) {
      bar.append(choice("Structure", data.shapes.map((s, n) => [n, s.name]), 0, (v) => { this.shape = data.shapes[Number(v)]; this.load(); this.restart(); }));
    }
    this.grower = slider("Grow or shrink", -4, 4, 1, 0, (v) => (v ? `${v > 0 ? "+" : "−"}${Math.abs(v)} voxels` : "as it is"), (v) => { this.grow = v; this.empty = false; this.draw(); });
    const sure = slider("Confidence", 0.5, 0.99, 0.01, this.confidence, (v) => v.toFixed(2), (v) => { this.confidence = v; this.draw(); });
    bar.append(this.grower, sure, button("Put it right", () => this.restart()), button("Predict nothing", () => { this.empty = true; this.draw(); }));
    const body = make("div", "body"), left = make("div"), right = make("div");
    this.canvas = make("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "The predicted mask over the true one; drag it, or move it with the arrow keys");
    this.legend = make("div");
    left.append(this.canvas, this.legend);
    this.numbers = readout([
      ["dice", "Dice"], ["accuracy", "voxels that are right"], ["ce", "cross-entropy, mean over voxels"],
      ["dice_loss", "Dice loss, background counted"], ["sum", "Dice loss + cross-entropy"],
    ]);
    this.formula = make("div", "formula");
    right.append(this.numbers, this.formula);
    body.append(left, right);
    this.root.append(bar, body);
    this.load();
    this.restart(false);
    this.move();
  }

  load() {
    const { width, height, mask } = this.shape;
    this.truth = bits(mask, width * height);
    this.grown = new Map([[0, this.truth]]);
  }

  restart(draw = true) {
    this.offset = draw ? [0, 0] : [Math.round(this.shape.width / 9), Math.round(this.shape.height / 12)];
    this.grow = 0;
    this.empty = false;
    this.grower.set(0);
    if (draw) this.draw();
  }

  move() {
    const c = this.canvas;
    let from = null;
    c.addEventListener("pointerdown", (e) => { c.setPointerCapture(e.pointerId); from = [e.clientX, e.clientY, ...this.offset]; });
    c.addEventListener("pointermove", (e) => {
      if (!from) return;
      this.offset = [from[2] + Math.round((e.clientX - from[0]) / this.cell), from[3] + Math.round((e.clientY - from[1]) / this.cell)];
      this.empty = false;
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) c.addEventListener(end, () => { from = null; });
    c.addEventListener("keydown", (e) => {
      const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[e.key];
      if (!step) return;
      e.preventDefault();
      this.offset = [this.offset[0] + step[0], this.offset[1] + step[1]];
      this.empty = false;
      this.draw();
    });
  }

  // The true mask grown or shrunk by some voxels, then moved; what leaves the image is cut off.
  prediction() {
    const { width, height } = this.shape, moved = new Uint8Array(width * height);
    if (this.empty) return moved;
    if (!this.grown.has(this.grow)) this.grown.set(this.grow, resized(this.truth, width, height, this.grow));
    const from = this.grown.get(this.grow), [dx, dy] = this.offset;
    for (let y = Math.max(0, dy); y < Math.min(height, height + dy); y++) {
      for (let x = Math.max(0, dx); x < Math.min(width, width + dx); x++) moved[y * width + x] = from[(y - dy) * width + x - dx];
    }
    return moved;
  }

  draw() {
    const { width, height, colour } = this.shape, space = Math.min(this.canvas.parentElement.clientWidth, 620);
    if (!space) return;
    const mask = this.prediction(), found = measure(this.truth, mask, this.confidence);
    const cell = (this.cell = Math.max(2, Math.floor(Math.min(space / width, 510 / height))));
    const g = surface(this.canvas, cell * width, cell * height);
    g.fillStyle = MASKS.ground;
    g.fillRect(0, 0, cell * width, cell * height);
    const gap = cell > 4 ? 1 : 0;
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const t = this.truth[y * width + x], p = mask[y * width + x];
      if (!t && !p) continue;
      g.fillStyle = t && p ? MASKS.both : t ? MASKS.missed : MASKS.extra;
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
    this.legend.replaceChildren(swatches([
      [MASKS.both, `in both: ${found.tp}`], [MASKS.missed, `false negative: ${found.fn}`],
      [MASKS.extra, `false positive: ${found.fp}`], [MASKS.ground, `in neither: ${found.tn}`],
    ]));
    this.fill(found);
    Object.assign(this.root.dataset, {
      width, height, truth: packed(this.truth), prediction: packed(mask), confidence: this.confidence,
      dice: found.dice ?? "", accuracy: found.accuracy, ce: found.ce, loss: found.diceLoss,
    });
  }

  fill(f) {
    const right = this.confidence.toFixed(2), wrong = (1 - this.confidence).toFixed(2), n = f.tp + f.fn + f.fp + f.tn;
    this.numbers.set("dice", f.dice === null ? "–" : f.dice.toFixed(3));
    this.numbers.set("accuracy", (100 * f.accuracy).toFixed(1) + " %");
    this.numbers.set("ce", f.ce.toFixed(3));
    this.numbers.set("dice_loss", f.diceLoss.toFixed(3));
    this.numbers.set("sum", (f.ce + f.diceLoss).toFixed(3));
    this.formula.replaceChildren(...[
      ["Dice", `2 × ${f.tp} / (${f.tp + f.fn} + ${f.tp + f.fp})`],
      ["accuracy", `(${f.tp} + ${f.tn}) / ${n}`],
      ["cross-entropy", `−(${f.tp + f.tn} ln ${right} + ${f.fn + f.fp} ln ${wrong}) / ${n}`],
    ].map(([name, text]) => {
      const line = make("div");
      line.append(make("span", "label", name), make("code", "", text));
      return line;
    }));
  }
}

// All numbers of two masks; inside its mask the network gives the structure the probability c, outside 1 - c.
function measure(truth, mask, c) {
  let tp = 0, fp = 0, fn = 0, tn = 0;
  for (let n = 0; n < truth.length; n++) {
    if (truth[n]) mask[n] ? tp++ : fn++;
    else mask[n] ? fp++ : tn++;
  }
  const count = truth.length, sizes = 2 * tp + fp + fn;
  const structure = score(c * tp + (1 - c) * fn, c * (tp + fp) + (1 - c) * (fn + tn), tp + fn, count);
  const background = score(c * tn + (1 - c) * fp, c * (tn + fn) + (1 - c) * (tp + fp), tn + fp, count);
  return {
    tp, fp, fn, tn,
    dice: sizes ? (2 * tp) / sizes : null,
    accuracy: (tp + tn) / count,
    ce: -((tp + tn) * Math.log(c) + (fp + fn) * Math.log(1 - c)) / count,
    diceLoss: 1 - (structure + background) / 2,
  };
}

// The score of one class in the Dice loss, from the sums of p t, p and t (core/training/losses.py).
function score(both, claimed, truth, count) {
  const smooth = 1e-5;
  return truth ? (2 * both + smooth) / (claimed + truth + smooth) : 1 - claimed / count;
}

// The mask grown by all voxels within ``by`` voxels of it; shrunk where ``by`` is negative: its outside grown.
function resized(mask, width, height, by) {
  const reach = Math.abs(by), kept = by > 0 ? 1 : 0, out = mask.slice();
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (mask[y * width + x] !== kept) continue;
    for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
      const inside = y + dy >= 0 && y + dy < height && x + dx >= 0 && x + dx < width;
      if (inside && dx * dx + dy * dy <= reach * reach) out[(y + dy) * width + x + dx] = kept;
    }
  }
  return out;
}

function line(g, x0, y0, x1, y1) { g.moveTo(x0, y0); g.lineTo(x1, y1); }

export default component(Overlap);
