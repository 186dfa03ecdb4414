// A ball in a sub-volume: how accuracy and Dice judge a mask that is one voxel off, and one that is empty, by its size.

const SIDE = 64, MOST = 54, PLOT = { width: 360, height: 210, left: 34, right: 10, top: 10, bottom: 34 };

class Imbalance extends Base {
  build(data) {
    this.diameter = 8;
    this.shift = 1;
    const bar = make("div", "bar");
    bar.append(
      slider("Size of the structure", 2, MOST, 1, this.diameter, (v) => `${v} voxels across`, (v) => { this.diameter = v; this.draw(); }),
      slider("Mask is off by", 1, 4, 1, this.shift, (v) => (v === 1 ? "1 voxel" : `${v} voxels`), (v) => { this.shift = v; this.curve = null; this.draw(); }),
    );
    const body = make("div", "body"), left = make("div"), middle = make("div"), right = make("div");
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "Slice through the middle of the structure with the mask");
    left.append(make("figcaption", "", `middle slice of ${SIDE} × ${SIDE} × ${SIDE} voxels`), this.canvas);
    this.numbers = readout([
      ["share", "voxels of the structure"], ["accuracy", "mask is off: voxels that are right"], ["dice", "mask is off: Dice"],
      ["nothing", "nothing predicted: voxels that are right"], ["zero", "nothing predicted: Dice"],
    ]);
    middle.append(this.numbers);
    this.plot = svg("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": "Accuracy and Dice by the size of the structure" });
    this.key = make("div");
    right.append(this.plot, this.key);
    body.append(left, middle, right);
    this.root.append(bar, body);
    if (data.shares) this.root.append(shareTable(data));
  }

  draw() {
    const space = Math.min(this.canvas.parentElement.clientWidth, 260);
    if (!space) return;
    this.curve ??= Array.from({ length: MOST - 1 }, (_, n) => ball(n + 2, this.shift));
    const here = this.curve[this.diameter - 2], total = SIDE ** 3;
    const accuracy = (f) => 1 - (2 * (f.voxels - f.hit)) / total, dice = (f) => f.hit / f.voxels;
    this.numbers.set("share", `${here.voxels.toLocaleString("en")} of ${total.toLocaleString("en")}`);
    this.numbers.set("accuracy", exact(accuracy(here)));
    this.numbers.set("dice", dice(here).toFixed(3));
    this.numbers.set("nothing", exact(1 - here.voxels / total));
    this.numbers.set("zero", "0.000");
    this.drawSlice(space);
    this.drawPlot(accuracy, dice, total);
    Object.assign(this.root.dataset, { diameter: this.diameter, shift: this.shift, voxels: here.voxels, hit: here.hit, accuracy: accuracy(here), dice: dice(here) });
  }

  drawSlice(space) {
    const cell = Math.max(2, Math.floor(space / SIDE)), g = surface(this.canvas, cell * SIDE, cell * SIDE);
    g.fillStyle = MASKS.ground;
    g.fillRect(0, 0, cell * SIDE, cell * SIDE);
    const z = SIDE >> 1;
    for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++) {
      const t = inBall(x, y, z, this.diameter), p = inBall(x - this.shift, y, z, this.diameter);
      if (!t && !p) continue;
      g.fillStyle = t && p ? MASKS.both : t ? MASKS.missed : MASKS.extra;
      g.fillRect(x * cell, y * cell, cell, cell);
    }
  }

  drawPlot(accuracy, dice, total) {
    const { width, height, left, right, top, bottom } = PLOT, ink = this.colour("--st-text-color", "#222");
    const x = (d) => left + (Math.log(d / 2) / Math.log(MOST / 2)) * (width - left - right), y = (v) => top + (1 - v) * (height - top - bottom);
    const lines = [
      [(f) => accuracy(f), this.colour("--st-gray-color", "#888"), "voxels that are right"],
      [(f) => 1 - f.voxels / total, this.colour("--st-gray-color", "#888"), "voxels that are right when nothing is predicted", "3 4"],
      [(f) => dice(f), this.colour("--st-primary-color", "#7b6cf0"), "Dice"],
    ];
    const parts = [];
    for (const v of [0, 0.5, 1]) {
      parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
      parts.push(svg("text", { class: "faint", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(1)));
    }
    for (const d of [2, 5, 10, 20, 50]) parts.push(svg("text", { class: "faint", x: x(d), y: height - bottom + 15, "text-anchor": "middle" }, String(d)));
    parts.push(svg("text", { class: "faint", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "size of the structure, voxels across"));
    for (const [value, colour, , dash] of lines) {
      const points = this.curve.map((f, n) => `${x(n + 2).toFixed(1)},${y(value(f)).toFixed(1)}`).join(" ");
      parts.push(svg("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2, ...(dash ? { "stroke-dasharray": dash } : {}) }));
    }
    const here = this.curve[this.diameter - 2];
    parts.push(svg("line", { x1: x(this.diameter), x2: x(this.diameter), y1: top, y2: height - bottom, stroke: ink, "stroke-opacity": 0.35 }));
    for (const [value, colour] of [lines[0], lines[2]]) parts.push(svg("circle", { cx: x(this.diameter), cy: y(value(here)), r: 4, fill: colour }));
    this.plot.replaceChildren(...parts);
    this.key.replaceChildren(swatches(lines.filter(([, , , dash]) => !dash).map(([, colour, name]) => [colour, name])), make("div", "small", "dashed: voxels that are right when nothing is predicted"));
  }
}

// Whether a voxel lies in the ball in the middle of the sub-volume: its centre within the radius.
function inBall(x, y, z, diameter) {
  const middle = diameter % 2 ? SIDE / 2 : (SIDE - 1) / 2;  // on a voxel or between two, so that it is symmetric
  return (x - middle) ** 2 + (y - middle) ** 2 + (z - middle) ** 2 <= (diameter / 2) ** 2;
}

// Voxels of a ball, and how many of them the same ball a few voxels aside has too.
function ball(diameter, shift) {
  const low = Math.max(0, (SIDE >> 1) - (diameter >> 1) - 1), high = Math.min(SIDE - 1, (SIDE >> 1) + (diameter >> 1) + 1);
  let voxels = 0, hit = 0;
  for (let z = low; z <= high; z++) for (let y = low; y <= high; y++) for (let x = low; x <= high; x++) {
    if (!inBall(x, y, z, diameter)) continue;
    voxels++;
    if (inBall(x - shift, y, z, diameter)) hit++;
  }
  return { voxels, hit };
}

function shareTable(data) {
  const whole = make("div", "whole"), track = make("div", "track");
  data.shares.forEach((s) => {
    const part = make("span");
    part.style.width = `${100 * s.share}%`;
    part.style.background = s.colour;
    part.title = `${s.name} ${percent(s.share)}`;
    track.append(part);
  });
  whole.append(
    make("figcaption", "", `${data.subject}, all ${data.total.toLocaleString("en")} voxels of the scan`), track,
    swatches(data.shares.map((s) => [s.colour, `${s.name} ${(100 * s.share).toFixed(1)} %`])),
    make("div", "say", `Call every voxel ${data.shares[0].name}, and ${(100 * data.shares[0].share).toFixed(1)} % of them are right, while Dice is 0 for ${list(data.shares.slice(1).map((s) => s.name))}.`),
  );
  return whole;
}

const list = (names) => (names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`);
const exact = (share) => (100 * share).toFixed(2) + " %";

export default component(Imbalance);
