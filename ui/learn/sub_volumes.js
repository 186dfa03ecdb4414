// Where sub-volumes are drawn, rule by rule: outlines on three middle slices, and what lies in what was drawn.

const PLANES = [["axial", 0, 1], ["coronal", 0, 2], ["sagittal", 1, 2]];  // name, axis across, axis up

class Places extends Base {
  build(data) {
    this.size = 0;
    this.rule = data.rules.length - 1;
    this.count = Math.min(25, data.draws[0][0].starts.length);
    const bar = make("div", "bar");
    bar.append(choice("Rule", data.rules.map((r, n) => [n, r.name]), this.rule, (v) => { this.rule = Number(v); this.draw(); }));
    if (data.sizes.length > 1) bar.append(choice("Size of a sub-volume", data.sizes.map((s, n) => [n, s.name]), this.size, (v) => { this.size = Number(v); this.draw(); }));
    const steer = make("div", "bar"), most = data.draws[0][0].starts.length;
    this.slider = slider("Drawn", 1, most, 1, this.count, (v) => `${v} of ${most}`, (v) => { this.stop(); this.count = v; this.draw(); });
    this.go = button("Play", () => (this.timer ? this.stop() : this.start(most)));
    steer.append(button("Draw one", () => { this.stop(); this.step(most); }), this.go, this.slider);
    const body = make("div", "body"), panes = make("div", "panes");
    this.panes = PLANES.map(([name, across, up]) => {
      const figure = make("figure"), canvas = make("canvas"), picture = new Image();
      picture.onload = () => this.draw();
      picture.src = data.slices[name];
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Middle ${name} slice with the outlines of the sub-volumes`);
      figure.append(make("figcaption", "", name), canvas);
      panes.append(figure);
      return { canvas, picture, across, up };
    });
    this.table = make("table");
    const side = make("div", "side");
    side.append(this.table);
    body.append(panes, side);
    this.say = make("div", "say");
    this.say.setAttribute("role", "status");
    this.root.append(bar, steer, body, this.say);
  }

  step(most) { this.count = this.count >= most ? 1 : this.count + 1; this.slider.set(this.count); this.draw(); }

  start(most) {
    this.go.textContent = "Pause";
    this.timer = setInterval(() => (this.count >= most ? this.stop() : this.step(most)), 60);
    if (this.count >= most) this.count = 0;
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.go.textContent = "Play";
  }

  close() { clearInterval(this.timer); super.close(); }

  draw() {
    const { shape, spacing, classes, share } = this.data, drawn = this.data.draws[this.size][this.rule];
    const starts = drawn.starts.slice(0, this.count), last = starts[starts.length - 1], sub = drawn.sub_volume;
    const accent = this.colour("--st-primary-color", "#7b6cf0");
    const room = this.panes.map(({ canvas, across }) => canvas.parentElement.clientWidth / (shape[across] * spacing[across]));
    const mm = Math.min(...room);  // pixels of a millimetre, the same in all three
    if (!mm) return;
    for (const { canvas, picture, across, up } of this.panes) {
      const sx = mm * spacing[across], sy = mm * spacing[up];
      const g = surface(canvas, Math.floor(shape[across] * sx), Math.floor(shape[up] * sy));
      g.imageSmoothingEnabled = true;
      if (picture.complete) g.drawImage(picture, 0, 0, shape[across] * sx, shape[up] * sy);
      const flip = this.data.oriented;
      const box = (start) => {
        const first = flip ? shape[across] - start[across] - sub[across] : start[across];
        return [first * sx, (shape[up] - start[up] - sub[up]) * sy, sub[across] * sx, sub[up] * sy];
      };
      g.lineWidth = 1;
      g.strokeStyle = `rgb(255 255 255 / ${clamp(8 / this.count, 0.07, 0.4)})`;
      for (const start of starts.slice(0, -1)) g.strokeRect(...box(start));
      starts.forEach((start, n) => {
        const [x, y, w, h] = box(start);
        g.fillStyle = classes[drawn.centres[n]].colour;
        g.fillRect(x + w / 2 - 2, y + h / 2 - 2, 4, 4);
      });
      g.lineWidth = 2.5;
      g.strokeStyle = accent;
      g.strokeRect(...box(last));
    }
    const inside = classes.map((_, c) => drawn.shares.slice(0, this.count).reduce((sum, row) => sum + row[c], 0) / this.count);
    const centred = classes.map((_, c) => drawn.centres.slice(0, this.count).filter((v) => v === c).length);
    this.fill(classes, share, inside, centred);
    const rule = this.data.rules[this.rule];
    this.say.textContent = `${rule.say} Sub-volume ${this.count} begins at voxel (${last.join(", ")}); its middle voxel is ${classes[drawn.centres[this.count - 1]].name}.`;
    Object.assign(this.root.dataset, { count: this.count, centred: centred.join(","), inside: inside.map((v) => v.toFixed(5)).join(","), rule: rule.foreground, start: last.join(",") });
  }

  fill(classes, share, inside, centred) {
    const head = make("tr");
    head.append(...["", "in the whole volume", "in what was drawn", "at the middle of it"].map((t) => make("th", "", t)));
    const rows = classes.map((c, n) => {
      const line = make("tr"), name = make("td"), mark = make("i");
      mark.style.background = c.colour;
      name.append(mark, c.name);
      line.append(name, bar(share[n], c.colour), bar(inside[n], c.colour), make("td", "", String(centred[n])));
      return line;
    });
    this.table.replaceChildren(head, ...rows);
  }
}

function bar(share, colour) {
  const cell = make("td"), track = make("span", "track"), filled = make("i");
  filled.style.width = `${100 * share}%`;
  filled.style.background = colour;
  track.append(filled);
  cell.append(track, percent(share));
  return cell;
}

export default component(Places);
