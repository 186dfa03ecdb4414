// A 3 × 3 and a 3 × 3 × 3 kernel over three neighbouring slices: values, weights, sums and results.

const PATTERNS = {
  average: {
    name: "average", weights2d: Array(9).fill(1 / 9), weights3d: Array(27).fill(1 / 27),
    description: "Both compute a mean. The 3D kernel averages three times as many voxels: less noise, without more blur within the slice.",
  },
  edge: {
    name: "edges", weights2d: Array(9).fill(-1 / 8).fill(1, 4, 5), weights3d: Array(27).fill(-1 / 26).fill(1, 13, 14),
    description: "The middle voxel minus its neighbours: large at edges. An edge between two slices shows only in the 3D result.",
  },
  through: {
    name: "change between slices", weights2d: Array(9).fill(0), weights3d: [...Array(9).fill(-1 / 9), ...Array(9).fill(0), ...Array(9).fill(1 / 9)],
    description: "The slice above minus the slice below. A 2D kernel has no weights there and cannot compute this, for any values of its weights.",
  },
};

class Kernel extends Figure {
  build(data) {
    this.pattern = "average";
    this.source = data.block ? "subject" : "sheet";
    this.loadSource();
    const bar = createElement("div", "bar"), sources = [["sheet", "a sheet in one slice"]];
    if (data.block) sources.unshift(["subject", `${data.block.modality} of ${data.block.subject}`]);
    bar.append(
      buttonGroup("Image", sources, this.source, (v) => { this.source = v; this.loadSource(); this.draw(); }),
      buttonGroup("Kernel", Object.entries(PATTERNS).map(([k, p]) => [k, p.name]), this.pattern, (v) => { this.pattern = v; this.draw(); }),
    );
    const slices = createElement("div", "slices");
    this.slices = ["slice below", "this slice", "slice above"].map((name, n) => this.pane(slices, name, n));
    this.weights = createElement("div", "weights");
    const results = createElement("div", "slices");
    this.results = ["result of the 3 × 3 kernel", "result of the 3 × 3 × 3 kernel"].map((name) => this.pane(results, name, 1));
    const columns = createElement("div", "columns"), right = createElement("div");
    this.sums = valueList([["sum2d", "3 × 3, sum of 9 products"], ["sum3d", "3 × 3 × 3, sum of 27 products"]]);
    const left = createElement("div");
    left.append(slices, createElement("figcaption", "", "Voxel values under the kernel, and its weights"), this.weights);
    right.append(results, this.sums);
    columns.append(left, right);
    this.description = createElement("div", "description");
    this.description.setAttribute("role", "status");
    this.root.append(bar, columns, this.description);
  }

  // Values 0 to 99 of three slices, [slice][row][column].
  loadSource() {
    if (this.source === "subject") {
      const { size, values } = this.data.block;
      this.size = size;
      this.values = [0, 1, 2].map((s) => Array.from({ length: size }, (_, r) => values.slice((s * size + r) * size, (s * size + r + 1) * size)));
    } else {
      const n = (this.size = 21);
      this.values = [0, 1, 2].map((s) => Array.from({ length: n }, (_, r) => Array.from({ length: n }, (_, c) => {
        const inside = r > 3 && r < n - 4 && c > 3 && c < n - 4;
        return inside && s === 1 ? 80 : 20;
      })));
    }
    this.center = [this.size >> 1, this.size >> 1];
  }

  pane(parent, name, slice) {
    const figure = createElement("figure"), canvas = createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}; arrow keys move the kernel`);
    figure.append(createElement("figcaption", "", name), canvas);
    parent.append(figure);
    const moveToPointer = (e) => {
      const box = canvas.getBoundingClientRect(), cell = box.width / this.size;
      this.move(Math.floor((e.clientY - box.top) / cell), Math.floor((e.clientX - box.left) / cell));
    };
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); moveToPointer(e); });
    canvas.addEventListener("pointermove", (e) => { if (e.buttons || e.pointerType === "mouse") moveToPointer(e); });
    canvas.addEventListener("keydown", (e) => {
      const step = ARROW_STEPS[e.key];
      if (!step) return;
      e.preventDefault();
      this.move(this.center[0] + step[1], this.center[1] + step[0]);
    });
    return { canvas, slice };
  }

  move(row, column) {
    this.center = [clamp(row, 1, this.size - 2), clamp(column, 1, this.size - 2)];
    this.draw();
  }

  neighbourhood(slice, row, column) {
    const values = [];
    for (let r = -1; r <= 1; r++) for (let c = -1; c <= 1; c++) values.push(this.values[slice][row + r][column + c]);
    return values;
  }

  sum2d(row, column) {
    return dot(this.neighbourhood(1, row, column), PATTERNS[this.pattern].weights2d);
  }

  sum3d(row, column) {
    return dot([0, 1, 2].flatMap((s) => this.neighbourhood(s, row, column)), PATTERNS[this.pattern].weights3d);
  }

  draw() {
    const [row, column] = this.center, accent = this.colour("--st-primary-color", "#7b6cf0");
    const width = this.slices[0].canvas.parentElement.clientWidth;
    if (!width) return;
    const outlineKernel = (g, cell, solid) => {
      g.strokeStyle = accent;
      g.lineWidth = 2;
      g.setLineDash(solid ? [] : [4, 3]);
      g.strokeRect((column - 1) * cell, (row - 1) * cell, 3 * cell, 3 * cell);
    };
    for (const { canvas, slice } of this.slices) {
      const cell = Math.max(4, Math.floor(Math.min(width, 230) / this.size)), g = canvasContext(canvas, cell * this.size, cell * this.size);
      this.values[slice].forEach((line, r) => line.forEach((v, c) => {
        g.fillStyle = grey(v / 99);
        g.fillRect(c * cell, r * cell, cell, cell);
      }));
      outlineKernel(g, cell, slice === 1);
    }
    const results = [(r, c) => this.sum2d(r, c), (r, c) => this.sum3d(r, c)];
    const inner = [...Array(this.size - 2).keys()].map((n) => n + 1);
    const values = results.map((f) => inner.map((r) => inner.map((c) => f(r, c))));
    const all = values.flat(2), signed = this.pattern !== "average";
    const maxAbsolute = Math.max(1, ...all.map(Math.abs));
    this.results.forEach(({ canvas }, n) => {
      const available = canvas.parentElement.clientWidth;
      const cell = Math.max(4, Math.floor(Math.min(available, 230) / this.size)), g = canvasContext(canvas, cell * this.size, cell * this.size);
      g.fillStyle = "#000";
      g.fillRect(0, 0, cell * this.size, cell * this.size);
      values[n].forEach((line, r) => line.forEach((v, c) => {
        g.fillStyle = signed ? diverging(v / maxAbsolute) : grey(v / 99);
        g.fillRect((c + 1) * cell, (r + 1) * cell, cell, cell);
      }));
      g.strokeStyle = accent;
      g.lineWidth = 2;
      g.strokeRect(column * cell, row * cell, cell, cell);
    });
    this.fillWeights(row, column);
    const sum2d = this.sum2d(row, column), sum3d = this.sum3d(row, column);
    this.sums.set("sum2d", signedText(sum2d));
    this.sums.set("sum3d", signedText(sum3d));
    this.description.textContent = PATTERNS[this.pattern].description;
    Object.assign(this.root.dataset, {
      values: [0, 1, 2].flatMap((s) => this.neighbourhood(s, row, column)).join(","), sum2d: sum2d.toFixed(6), sum3d: sum3d.toFixed(6),
      center: this.center.join(","), pattern: this.pattern,
    });
  }

  fillWeights(row, column) {
    const { weights2d, weights3d } = PATTERNS[this.pattern];
    const grids = [0, 1, 2].map((s) => {
      const grid = createElement("div", "grid");
      this.neighbourhood(s, row, column).forEach((v, n) => {
        const w = weights3d[s * 9 + n], cell = createElement("span", w ? "" : "none");
        cell.append(createElement("b", "", String(v)), createElement("small", "", "× " + fraction(w)));
        if (s === 1 && fraction(weights2d[n]) !== fraction(w)) cell.append(createElement("small", "two", `2D × ${fraction(weights2d[n])}`));
        grid.append(cell);
      });
      return grid;
    });
    this.weights.replaceChildren(...grids);
  }
}

const dot = (a, b) => a.reduce((sum, v, n) => sum + v * b[n], 0);
const signedText = (v) => (Math.abs(v) < 0.05 ? "0.0" : v.toFixed(1).replace("-", "−"));

function grey(share) {
  const level = Math.round(255 * clamp(share, 0, 1));
  return `rgb(${level} ${level} ${level})`;
}

// Black at 0, blue below, yellow above: safe for red-green colour blindness.
function diverging(share) {
  const s = clamp(share, -1, 1), n = Math.round(255 * Math.abs(s));
  return s < 0 ? `rgb(${Math.round(n * 0.3)} ${Math.round(n * 0.6)} ${n})` : `rgb(${n} ${Math.round(n * 0.75)} ${Math.round(n * 0.1)})`;
}

// A weight as text: 1/27, −1/8, 1 or 0.
function fraction(w) {
  if (!w) return "0";
  const sign = w < 0 ? "−" : "", denominator = Math.round(1 / Math.abs(w));
  return denominator === 1 ? sign + "1" : `${sign}1/${denominator}`;
}

export default component(Kernel);
