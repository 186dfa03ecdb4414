// T1 and T2 intensities of each tissue, as histograms that overlap, and both together as a map.

const WIDE = 340, HIGH = 170, FOOT = 18;

class Intensities extends Base {
  build(data) {
    this.hidden = new Set();
    this.at = null;
    const bar = make("div", "bar"), switches = make("div", "choice");
    switches.setAttribute("role", "group");
    switches.setAttribute("aria-label", "Tissues shown");
    data.classes.forEach((c, n) => {
      const b = make("button", "", c.name), mark = make("i");
      mark.style.background = c.colour;
      b.type = "button";
      b.prepend(mark);
      b.setAttribute("aria-pressed", "true");
      b.addEventListener("click", () => {
        if (!this.hidden.delete(n)) this.hidden.add(n);
        b.setAttribute("aria-pressed", String(!this.hidden.has(n)));
        this.draw();
      });
      switches.append(b);
    });
    bar.append(switches, make("span", "small", `${data.subject}: ${data.head.toLocaleString("en")} voxels of the head, ${data.bins} bins`));
    const panels = make("div", "panels");
    this.panels = data.modalities.map((name, m) => this.panel(name, m));
    panels.append(...this.panels.map((p) => p.figure));
    if (data.joint) {
      this.map = this.together();
      panels.append(this.map.figure);
    }
    this.root.append(bar, panels);
  }

  panel(name, m) {
    const figure = make("figure"), title = make("figcaption", "", `${name}: share of each tissue's voxels`);
    const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, tabindex: 0, role: "img", "aria-label": `Histogram of ${name} intensities by tissue; arrow keys move through it` });
    const said = make("div", "small line");
    said.setAttribute("role", "status");
    const list = readout([
      ...this.data.overlaps[m].map(([a, b]) => [`${a}-${b}`, `overlap of ${this.name(a)} and ${this.name(b)}`]),
      ["guess", `right when guessed from ${name} alone`],
    ]);
    for (const [a, b, value] of this.data.overlaps[m]) list.set(`${a}-${b}`, value === null ? "–" : value.toFixed(2));
    list.set("guess", percent(this.data.guesses[m]));
    figure.append(title, picture, said, list);
    const move = (bin) => { this.at = bin === null ? null : [m, clamp(bin, 0, this.data.bins - 1)]; this.draw(); };
    picture.addEventListener("pointermove", (e) => {
      const box = picture.getBoundingClientRect();
      move(Math.floor(((e.clientX - box.left) / box.width) * this.data.bins));
    });
    picture.addEventListener("pointerleave", () => move(null));
    picture.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
      if (!step) return;
      e.preventDefault();
      move(this.at && this.at[0] === m ? this.at[1] + step : Math.floor(this.data.bins / 2));
    });
    return { figure, picture, said, list };
  }

  together() {
    const [x, y] = this.data.modalities, figure = make("figure");
    const canvas = make("canvas", "map");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Voxels by ${x} and ${y}, coloured by the tissue most frequent there`);
    const said = make("div", "small line"), list = readout([["guess", "right when guessed from both"]]);
    list.set("guess", percent(this.data.guesses[2]));
    said.setAttribute("role", "status");
    figure.append(make("figcaption", "", `${x} (across) and ${y} (up) together: the most frequent tissue`), canvas, said, list);
    canvas.addEventListener("pointermove", (e) => {
      const box = canvas.getBoundingClientRect(), bins = this.data.bins;
      const a = clamp(Math.floor(((e.clientX - box.left) / box.width) * bins), 0, bins - 1);
      const b = clamp(bins - 1 - Math.floor(((e.clientY - box.top) / box.height) * bins), 0, bins - 1);
      said.textContent = this.shares(this.data.joint.map((table) => table[a * bins + b]), `${x} ${this.range(0, a)}, ${y} ${this.range(1, b)}`);
    });
    canvas.addEventListener("pointerleave", () => { said.textContent = ""; });
    return { figure, canvas };
  }

  name(n) { return this.data.classes[n].name; }

  range(m, bin) {
    const [low, high] = this.data.ranges[m], width = (high - low) / this.data.bins;
    return `${Math.round(low + bin * width)} to ${Math.round(low + (bin + 1) * width)}`;
  }

  shares(counts, where) {
    const total = counts.reduce((a, b) => a + b, 0);
    if (!total) return `${where}: no voxel`;
    return `${where}: ${counts.map((n, c) => `${percent(n / total)} ${this.name(c)}`).join(", ")}`;
  }

  draw() {
    const ink = this.colour("--st-text-color", "#222");
    this.panels.forEach(({ picture, said }, m) => {
      const { bins, classes, counts, ranges } = this.data, floor = HIGH - FOOT;
      const sizes = counts[m].map((row) => row.reduce((a, b) => a + b, 0) || 1);
      const top = Math.max(...counts[m].map((row, c) => Math.max(...row) / sizes[c]));
      const x = (bin) => (bin / bins) * WIDE, y = (share) => floor - (share / top) * (floor - 6);
      const parts = [svg("line", { class: "axis", x1: 0, x2: WIDE, y1: floor, y2: floor })];
      classes.forEach((c, n) => {
        if (this.hidden.has(n)) return;
        const line = counts[m][n].map((count, bin) => `${x(bin).toFixed(1)},${y(count / sizes[n]).toFixed(1)} ${x(bin + 1).toFixed(1)},${y(count / sizes[n]).toFixed(1)}`).join(" ");
        parts.push(svg("polygon", { points: `0,${floor} ${line} ${WIDE},${floor}`, fill: c.colour, "fill-opacity": 0.28 }));
        parts.push(svg("polyline", { points: line, fill: "none", stroke: c.colour, "stroke-width": 1.6 }));
      });
      const [low, high] = ranges[m];
      for (const t of [0, 0.25, 0.5, 0.75, 1]) {
        const anchor = t === 0 ? "start" : t === 1 ? "end" : "middle";
        parts.push(svg("text", { class: "faint", x: t * WIDE, y: HIGH - 4, "text-anchor": anchor }, String(Math.round(low + t * (high - low)))));
      }
      const here = this.at && this.at[0] === m ? this.at[1] : null;
      if (here !== null) parts.push(svg("rect", { x: x(here), y: 0, width: WIDE / bins, height: floor, fill: ink, "fill-opacity": 0.16 }));
      picture.replaceChildren(...parts);
      said.textContent = here === null ? "" : this.shares(counts[m].map((row) => row[here]), this.range(m, here));
    });
    if (this.map) this.drawMap();
  }

  drawMap() {
    const { bins, classes, joint } = this.data, canvas = this.map.canvas;
    canvas.width = canvas.height = bins;
    const g = canvas.getContext("2d"), image = g.createImageData(bins, bins);
    let most = 1;
    for (const table of joint) for (const n of table) most = Math.max(most, n);
    const colours = classes.map((c) => rgb(c.colour));
    for (let a = 0; a < bins; a++) for (let b = 0; b < bins; b++) {
      let best = -1, count = 0, total = 0;
      joint.forEach((table, n) => {
        if (this.hidden.has(n)) return;
        const here = table[a * bins + b];
        total += here;
        if (here > count) { count = here; best = n; }
      });
      if (best < 0) continue;
      const at = 4 * ((bins - 1 - b) * bins + a);
      image.data.set(colours[best], at);
      image.data[at + 3] = 60 + 195 * (Math.log(1 + total) / Math.log(1 + most));
    }
    g.putImageData(image, 0, 0);
  }
}

export default component(Intensities);
