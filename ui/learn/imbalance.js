// A ball in a sub-volume: accuracy and Dice of a shifted mask and of an empty one, as functions of the ball's size.

const SIDE = 64, MAX_DIAMETER = 54, PLOT = { width: 360, height: 210, left: 34, right: 10, top: 10, bottom: 34 };

class Imbalance extends Figure {
  build(data) {
    this.diameter = 8;
    this.shift = 1;
    const bar = createElement("div", "bar");
    bar.append(
      slider("Size of the structure", 2, MAX_DIAMETER, 1, this.diameter, (v) => `${v} voxels across`, (v) => { this.diameter = v; this.draw(); }),
      slider("Shift of the mask", 1, 4, 1, this.shift, (v) => (v === 1 ? "1 voxel" : `${v} voxels`), (v) => { this.shift = v; this.counts = null; this.draw(); }),
    );
    const body = createElement("div", "body"), left = createElement("div"), middle = createElement("div"), right = createElement("div");
    this.canvas = createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "Slice through the middle of the structure with the mask");
    left.append(createElement("figcaption", "", `middle slice of ${SIDE} × ${SIDE} × ${SIDE} voxels`), this.canvas);
    this.values = valueList([
      ["share", "voxels of the structure"], ["accuracy", "shifted mask: accuracy"], ["dice", "shifted mask: Dice"],
      ["emptyAccuracy", "empty mask: accuracy"], ["emptyDice", "empty mask: Dice"],
    ]);
    middle.append(this.values);
    this.plot = createSvg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": "Accuracy and Dice by the size of the structure" });
    this.legend = createElement("div");
    right.append(this.plot, this.legend);
    body.append(left, middle, right);
    this.root.append(bar, body);
    if (data.shares) this.root.append(shareTable(data));
  }

  draw() {
    const width = Math.min(this.canvas.parentElement.clientWidth, 260);
    if (!width) return;
    this.counts ??= Array.from({ length: MAX_DIAMETER - 1 }, (_, n) => ball(n + 2, this.shift));
    const current = this.counts[this.diameter - 2], total = SIDE ** 3;
    const accuracy = (f) => 1 - (2 * (f.voxels - f.shared)) / total, dice = (f) => f.shared / f.voxels;
    this.values.set("share", `${current.voxels.toLocaleString("en")} of ${total.toLocaleString("en")}`);
    this.values.set("accuracy", exactPercent(accuracy(current)));
    this.values.set("dice", dice(current).toFixed(3));
    this.values.set("emptyAccuracy", exactPercent(1 - current.voxels / total));
    this.values.set("emptyDice", "0.000");
    this.drawSlice(width);
    this.drawPlot(accuracy, dice, total);
    Object.assign(this.root.dataset, { diameter: this.diameter, shift: this.shift, voxels: current.voxels, shared: current.shared, accuracy: accuracy(current), dice: dice(current) });
  }

  drawSlice(width) {
    const cell = Math.max(2, Math.floor(width / SIDE)), g = canvasContext(this.canvas, cell * SIDE, cell * SIDE);
    g.fillStyle = MASKS.background;
    g.fillRect(0, 0, cell * SIDE, cell * SIDE);
    const z = SIDE >> 1;
    for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++) {
      const t = inBall(x, y, z, this.diameter), p = inBall(x - this.shift, y, z, this.diameter);
      if (!t && !p) continue;
      g.fillStyle = t && p ? MASKS.both : t ? MASKS.falseNegative : MASKS.falsePositive;
      g.fillRect(x * cell, y * cell, cell, cell);
    }
  }

  drawPlot(accuracy, dice, total) {
    const { width, height, left, right, top, bottom } = PLOT, ink = this.colour("--st-text-color", "#222");
    const x = (d) => left + (Math.log(d / 2) / Math.log(MAX_DIAMETER / 2)) * (width - left - right), y = (v) => top + (1 - v) * (height - top - bottom);
    const lines = [
      [(f) => accuracy(f), this.colour("--st-gray-color", "#888"), "accuracy"],
      [(f) => 1 - f.voxels / total, this.colour("--st-gray-color", "#888"), "accuracy of an empty mask", "3 4"],
      [(f) => dice(f), this.colour("--st-primary-color", "#7b6cf0"), "Dice"],
    ];
    const parts = [];
    for (const v of [0, 0.5, 1]) {
      parts.push(createSvg("line", { class: "axis", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
      parts.push(createSvg("text", { class: "faint", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(1)));
    }
    for (const d of [2, 5, 10, 20, 50]) parts.push(createSvg("text", { class: "faint", x: x(d), y: height - bottom + 15, "text-anchor": "middle" }, String(d)));
    parts.push(createSvg("text", { class: "faint", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "size of the structure, voxels across"));
    for (const [value, colour, , dash] of lines) {
      const points = this.counts.map((f, n) => `${x(n + 2).toFixed(1)},${y(value(f)).toFixed(1)}`).join(" ");
      parts.push(createSvg("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2, ...(dash ? { "stroke-dasharray": dash } : {}) }));
    }
    const current = this.counts[this.diameter - 2];
    parts.push(createSvg("line", { x1: x(this.diameter), x2: x(this.diameter), y1: top, y2: height - bottom, stroke: ink, "stroke-opacity": 0.35 }));
    for (const [value, colour] of [lines[0], lines[2]]) parts.push(createSvg("circle", { cx: x(this.diameter), cy: y(value(current)), r: 4, fill: colour }));
    this.plot.replaceChildren(...parts);
    this.legend.replaceChildren(colourLegend(lines.filter(([, , , dash]) => !dash).map(([, colour, name]) => [colour, name])), createElement("div", "small", "dashed: accuracy of an empty mask"));
  }
}

// Whether the centre of a voxel is within the ball in the middle of the sub-volume.
function inBall(x, y, z, diameter) {
  const middle = diameter % 2 ? SIDE / 2 : (SIDE - 1) / 2;  // on a voxel or between two: the ball is symmetric
  return (x - middle) ** 2 + (y - middle) ** 2 + (z - middle) ** 2 <= (diameter / 2) ** 2;
}

// Voxels of a ball, and the voxels that it shares with the same ball shifted along x.
function ball(diameter, shift) {
  const low = Math.max(0, (SIDE >> 1) - (diameter >> 1) - 1), high = Math.min(SIDE - 1, (SIDE >> 1) + (diameter >> 1) + 1);
  let voxels = 0, shared = 0;
  for (let z = low; z <= high; z++) for (let y = low; y <= high; y++) for (let x = low; x <= high; x++) {
    if (!inBall(x, y, z, diameter)) continue;
    voxels++;
    if (inBall(x - shift, y, z, diameter)) shared++;
  }
  return { voxels, shared };
}

function shareTable(data) {
  const whole = createElement("div", "whole"), track = createElement("div", "track");
  data.shares.forEach((s) => {
    const part = createElement("span");
    part.style.width = `${100 * s.share}%`;
    part.style.background = s.colour;
    part.title = `${s.name} ${percent(s.share)}`;
    track.append(part);
  });
  whole.append(
    createElement("figcaption", "", `${data.subject}, all ${data.total.toLocaleString("en")} voxels of the scan`), track,
    colourLegend(data.shares.map((s) => [s.colour, `${s.name} ${fixed(100 * s.share, 1)} %`])),
    createElement("div", "description", `Label every voxel ${data.shares[0].name}, and ${exactPercent(data.shares[0].share)} of them are correct, while Dice is 0 for ${joinNames(data.shares.slice(1).map((s) => s.name))}.`),
  );
  return whole;
}

const joinNames = (names) => (names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`);
// Two decimals, or more where a share that is not whole would appear as 100 %.
function exactPercent(share) {
  const decimals = fixed(100 * (1 - share), 2).split(".")[1].length;
  return fixed(100 * share, decimals) + " %";
}

export default component(Imbalance);
