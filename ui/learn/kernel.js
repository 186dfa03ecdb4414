// One kernel over three neighbouring slices: what nine weights in a slice see, and what twenty-seven in a block see.

const PATTERNS = {
  average: {
    name: "average", flat: Array(9).fill(1 / 9), solid: Array(27).fill(1 / 27),
    say: "Both take a mean. The block averages three times as many voxels, so noise shrinks more, and it does so without blurring further within the slice.",
  },
  edge: {
    name: "edges", flat: Array(9).fill(-1 / 8).fill(1, 4, 5), solid: Array(27).fill(-1 / 26).fill(1, 13, 14),
    say: "The middle voxel against its neighbours: large where something begins or ends. A border that lies between two slices exists only for the block.",
  },
  through: {
    name: "change between slices", flat: Array(9).fill(0), solid: [...Array(9).fill(-1 / 9), ...Array(9).fill(0), ...Array(9).fill(1 / 9)],
    say: "The slice above minus the slice below. A kernel within one slice has no weights to put there: whatever it learns, this question it cannot ask.",
  },
};

class Kernel extends Base {
  build(data) {
    this.pattern = "average";
    this.source = data.block ? "brain" : "sheet";
    this.load();
    const bar = make("div", "bar"), sources = [["sheet", "a sheet in one slice"]];
    if (data.block) sources.unshift(["brain", `${data.block.modality} of ${data.block.subject}`]);
    bar.append(
      choice("Image", sources, this.source, (v) => { this.source = v; this.load(); this.draw(); }),
      choice("Kernel", Object.entries(PATTERNS).map(([k, p]) => [k, p.name]), this.pattern, (v) => { this.pattern = v; this.draw(); }),
    );
    const slices = make("div", "slices");
    this.slices = ["slice below", "this slice", "slice above"].map((name, n) => this.pane(slices, name, n));
    this.weights = make("div", "weights");
    const results = make("div", "slices");
    this.results = ["what the 3 × 3 kernel makes of it", "what the 3 × 3 × 3 kernel makes of it"].map((name) => this.pane(results, name, 1));
    const columns = make("div", "columns"), right = make("div");
    this.sums = readout([["flat", "3 × 3, sum of 9 products"], ["solid", "3 × 3 × 3, sum of 27 products"]]);
    const left = make("div");
    left.append(slices, make("figcaption", "", "Voxel values under the kernel, and its weights"), this.weights);
    right.append(results, this.sums);
    columns.append(left, right);
    this.say = make("div", "say");
    this.say.setAttribute("role", "status");
    this.root.append(bar, columns, this.say);
  }

  // Values 0 to 99 of three slices, [slice][row][column].
  load() {
    if (this.source === "brain") {
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
    this.at = [this.size >> 1, this.size >> 1];
  }

  pane(parent, name, slice) {
    const figure = make("figure"), canvas = make("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}; arrow keys move the kernel`);
    figure.append(make("figcaption", "", name), canvas);
    parent.append(figure);
    const place = (e) => {
      const box = canvas.getBoundingClientRect(), cell = box.width / this.size;
      this.move(Math.floor((e.clientY - box.top) / cell), Math.floor((e.clientX - box.left) / cell));
    };
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); place(e); });
    canvas.addEventListener("pointermove", (e) => { if (e.buttons || e.pointerType === "mouse") place(e); });
    canvas.addEventListener("keydown", (e) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
      if (!step) return;
      e.preventDefault();
      this.move(this.at[0] + step[0], this.at[1] + step[1]);
    });
    return { canvas, slice };
  }

  move(row, column) {
    this.at = [clamp(row, 1, this.size - 2), clamp(column, 1, this.size - 2)];
    this.draw();
  }

  under(slice, row, column) {
    const found = [];
    for (let r = -1; r <= 1; r++) for (let c = -1; c <= 1; c++) found.push(this.values[slice][row + r][column + c]);
    return found;
  }

  flat(row, column) {
    return dot(this.under(1, row, column), PATTERNS[this.pattern].flat);
  }

  solid(row, column) {
    return dot([0, 1, 2].flatMap((s) => this.under(s, row, column)), PATTERNS[this.pattern].solid);
  }

  draw() {
    const [row, column] = this.at, accent = this.colour("--st-primary-color", "#7b6cf0");
    const width = this.slices[0].canvas.parentElement.clientWidth;
    if (!width) return;
    const mark = (g, cell, strong) => {
      g.strokeStyle = accent;
      g.lineWidth = 2;
      g.setLineDash(strong ? [] : [4, 3]);
      g.strokeRect((column - 1) * cell, (row - 1) * cell, 3 * cell, 3 * cell);
    };
    for (const { canvas, slice } of this.slices) {
      const cell = Math.max(4, Math.floor(Math.min(width, 230) / this.size)), g = surface(canvas, cell * this.size, cell * this.size);
      this.values[slice].forEach((line, r) => line.forEach((v, c) => {
        g.fillStyle = grey(v / 99);
        g.fillRect(c * cell, r * cell, cell, cell);
      }));
      mark(g, cell, slice === 1);
    }
    const results = [(r, c) => this.flat(r, c), (r, c) => this.solid(r, c)];
    const inner = [...Array(this.size - 2).keys()].map((n) => n + 1);
    const computed = results.map((f) => inner.map((r) => inner.map((c) => f(r, c))));
    const all = computed.flat(2), signed = this.pattern !== "average";
    const reach = Math.max(1, ...all.map(Math.abs));
    this.results.forEach(({ canvas }, n) => {
      const space = canvas.parentElement.clientWidth;
      const cell = Math.max(4, Math.floor(Math.min(space, 230) / this.size)), g = surface(canvas, cell * this.size, cell * this.size);
      g.fillStyle = "#000";
      g.fillRect(0, 0, cell * this.size, cell * this.size);
      computed[n].forEach((line, r) => line.forEach((v, c) => {
        g.fillStyle = signed ? diverging(v / reach) : grey(v / 99);
        g.fillRect((c + 1) * cell, (r + 1) * cell, cell, cell);
      }));
      g.strokeStyle = accent;
      g.lineWidth = 2;
      g.strokeRect(column * cell, row * cell, cell, cell);
    });
    this.fillWeights(row, column);
    const flat = this.flat(row, column), solid = this.solid(row, column);
    this.sums.set("flat", signedText(flat));
    this.sums.set("solid", signedText(solid));
    this.say.textContent = PATTERNS[this.pattern].say;
    Object.assign(this.root.dataset, {
      values: [0, 1, 2].flatMap((s) => this.under(s, row, column)).join(","), flat: flat.toFixed(6), solid: solid.toFixed(6),
      at: this.at.join(","), pattern: this.pattern,
    });
  }

  fillWeights(row, column) {
    const { flat, solid } = PATTERNS[this.pattern];
    const grids = [0, 1, 2].map((s) => {
      const grid = make("div", "grid");
      this.under(s, row, column).forEach((v, n) => {
        const w = solid[s * 9 + n], both = make("span", w ? "" : "none");
        both.append(make("b", "", String(v)), make("small", "", "× " + fraction(w)));
        if (s === 1 && fraction(flat[n]) !== fraction(w)) both.append(make("small", "two", `2D × ${fraction(flat[n])}`));
        grid.append(both);
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

// Black at 0, blue below, yellow above: readable without red and green.
function diverging(share) {
  const s = clamp(share, -1, 1), n = Math.round(255 * Math.abs(s));
  return s < 0 ? `rgb(${Math.round(n * 0.3)} ${Math.round(n * 0.6)} ${n})` : `rgb(${n} ${Math.round(n * 0.75)} ${Math.round(n * 0.1)})`;
}

// 1/27, −1/8, 1, 0: the weights are all of that kind.
function fraction(w) {
  if (!w) return "0";
  const sign = w < 0 ? "−" : "", below = Math.round(1 / Math.abs(w));
  return below === 1 ? sign + "1" : `${sign}1/${below}`;
}

export default component(Kernel);
