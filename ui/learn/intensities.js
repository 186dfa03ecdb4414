// Intensity histograms of each modality per tissue, and the joint histogram of two modalities as a map.

const WIDTH = 340, HEIGHT = 170, AXIS_HEIGHT = 18;

class Intensities extends Figure {
  build(data) {
    this.hidden = new Set();
    this.hovered = null;
    const bar = createElement("div", "bar"), tissueButtons = createElement("div", "button-group");
    tissueButtons.setAttribute("role", "group");
    tissueButtons.setAttribute("aria-label", "Tissues shown");
    data.classes.forEach((c, n) => {
      const b = createElement("button", "", c.name), mark = createElement("i");
      mark.style.background = c.colour;
      b.type = "button";
      b.prepend(mark);
      b.setAttribute("aria-pressed", "true");
      b.addEventListener("click", () => {
        if (!this.hidden.delete(n)) this.hidden.add(n);
        b.setAttribute("aria-pressed", String(!this.hidden.has(n)));
        this.draw();
      });
      tissueButtons.append(b);
    });
    bar.append(tissueButtons, createElement("span", "small", `${data.subject}: ${data.head.toLocaleString("en")} voxels of the head, ${data.bins} bins`));
    const panels = createElement("div", "panels");
    this.panels = data.modalities.map((name, m) => this.panel(name, m));
    panels.append(...this.panels.map((p) => p.figure));
    if (data.joint) {
      this.map = this.jointPanel();
      panels.append(this.map.figure);
    }
    this.root.append(bar, panels);
  }

  panel(name, m) {
    const figure = createElement("figure"), title = createElement("figcaption", "", `${name}: share of each tissue's voxels`);
    const picture = createSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: "img", "aria-label": `Histogram of ${name} intensities by tissue; arrow keys move through it` });
    const status = createElement("div", "small line");
    status.setAttribute("role", "status");
    const list = valueList([
      ...this.data.overlaps[m].map(([a, b]) => [`${a}-${b}`, `overlap of ${this.name(a)} and ${this.name(b)}`]),
      ["guess", `accuracy from ${name} only`],
    ]);
    for (const [a, b, value] of this.data.overlaps[m]) list.set(`${a}-${b}`, value === null ? "–" : value.toFixed(2));
    list.set("guess", percent(this.data.accuracies[m]));
    figure.append(title, picture, status, list);
    const move = (bin) => { this.hovered = bin === null ? null : [m, clamp(bin, 0, this.data.bins - 1)]; this.draw(); };
    picture.addEventListener("pointermove", (e) => {
      const box = picture.getBoundingClientRect();
      move(Math.floor(((e.clientX - box.left) / box.width) * this.data.bins));
    });
    picture.addEventListener("pointerleave", () => move(null));
    picture.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
      if (!step) return;
      e.preventDefault();
      move(this.hovered && this.hovered[0] === m ? this.hovered[1] + step : Math.floor(this.data.bins / 2));
    });
    return { figure, picture, status, list };
  }

  jointPanel() {
    const [x, y] = this.data.modalities, figure = createElement("figure");
    const canvas = createElement("canvas", "map");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Voxels by ${x} and ${y}, coloured by the tissue most frequent there`);
    const status = createElement("div", "small line"), list = valueList([["guess", "accuracy from both"]]);
    list.set("guess", percent(this.data.accuracies[2]));
    status.setAttribute("role", "status");
    figure.append(createElement("figcaption", "", `${x} (across) and ${y} (up) together: the most frequent tissue`), canvas, status, list);
    canvas.addEventListener("pointermove", (e) => {
      const box = canvas.getBoundingClientRect(), bins = this.data.bins;
      const a = clamp(Math.floor(((e.clientX - box.left) / box.width) * bins), 0, bins - 1);
      const b = clamp(bins - 1 - Math.floor(((e.clientY - box.top) / box.height) * bins), 0, bins - 1);
      status.textContent = this.describeShares(this.data.joint.map((table) => table[a * bins + b]), `${x} ${this.range(0, a)}, ${y} ${this.range(1, b)}`);
    });
    canvas.addEventListener("pointerleave", () => { status.textContent = ""; });
    return { figure, canvas };
  }

  name(n) { return this.data.classes[n].name; }

  range(m, bin) {
    const [low, high] = this.data.ranges[m], width = (high - low) / this.data.bins;
    return `${Math.round(low + bin * width)} to ${Math.round(low + (bin + 1) * width)}`;
  }

  describeShares(counts, range) {
    const total = counts.reduce((a, b) => a + b, 0);
    if (!total) return `${range}: no voxel`;
    return `${range}: ${counts.map((n, c) => `${percent(n / total)} ${this.name(c)}`).join(", ")}`;
  }

  draw() {
    const ink = this.colour("--st-text-color", "#222");
    this.panels.forEach(({ picture, status }, m) => {
      const { bins, classes, counts, ranges } = this.data, floor = HEIGHT - AXIS_HEIGHT;
      const sizes = counts[m].map((row) => row.reduce((a, b) => a + b, 0) || 1);
      const top = Math.max(...counts[m].map((row, c) => Math.max(...row) / sizes[c]));
      const x = (bin) => (bin / bins) * WIDTH, y = (share) => floor - (share / top) * (floor - 6);
      const parts = [createSvg("line", { class: "axis", x1: 0, x2: WIDTH, y1: floor, y2: floor })];
      classes.forEach((c, n) => {
        if (this.hidden.has(n)) return;
        const line = counts[m][n].map((count, bin) => `${x(bin).toFixed(1)},${y(count / sizes[n]).toFixed(1)} ${x(bin + 1).toFixed(1)},${y(count / sizes[n]).toFixed(1)}`).join(" ");
        parts.push(createSvg("polygon", { points: `0,${floor} ${line} ${WIDTH},${floor}`, fill: c.colour, "fill-opacity": 0.28 }));
        parts.push(createSvg("polyline", { points: line, fill: "none", stroke: c.colour, "stroke-width": 1.6 }));
      });
      const [low, high] = ranges[m];
      for (const t of [0, 0.25, 0.5, 0.75, 1]) {
        const anchor = t === 0 ? "start" : t === 1 ? "end" : "middle";
        parts.push(createSvg("text", { class: "faint", x: t * WIDTH, y: HEIGHT - 4, "text-anchor": anchor }, String(Math.round(low + t * (high - low)))));
      }
      const bin = this.hovered && this.hovered[0] === m ? this.hovered[1] : null;
      if (bin !== null) parts.push(createSvg("rect", { x: x(bin), y: 0, width: WIDTH / bins, height: floor, fill: ink, "fill-opacity": 0.16 }));
      picture.replaceChildren(...parts);
      status.textContent = bin === null ? "" : this.describeShares(counts[m].map((row) => row[bin]), this.range(m, bin));
    });
    if (this.map) this.drawMap();
  }

  drawMap() {
    const { bins, classes, joint } = this.data, canvas = this.map.canvas;
    canvas.width = canvas.height = bins;
    const g = canvas.getContext("2d"), image = g.createImageData(bins, bins);
    let maxCount = 1;
    for (const table of joint) for (const n of table) maxCount = Math.max(maxCount, n);
    const colours = classes.map((c) => rgb(c.colour));
    for (let a = 0; a < bins; a++) for (let b = 0; b < bins; b++) {
      let best = -1, count = 0, total = 0;
      joint.forEach((table, n) => {
        if (this.hidden.has(n)) return;
        const voxels = table[a * bins + b];
        total += voxels;
        if (voxels > count) { count = voxels; best = n; }
      });
      if (best < 0) continue;
      const at = 4 * ((bins - 1 - b) * bins + a);
      image.data.set(colours[best], at);
      image.data[at + 3] = 60 + 195 * (Math.log(1 + total) / Math.log(1 + maxCount));
    }
    g.putImageData(image, 0, 0);
  }
}

export default component(Intensities);
