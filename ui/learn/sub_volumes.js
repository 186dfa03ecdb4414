// Sub-volumes drawn by each sampling rule: their outlines on the three middle slices, and the class shares inside.

const PLANES = [["axial", 0, 1], ["coronal", 0, 2], ["sagittal", 1, 2]];  // name, horizontal axis, vertical axis

class SubVolumes extends Figure {
  build(data) {
    this.size = 0;
    this.rule = data.rules.length - 1;
    this.count = Math.min(25, data.draws[0][0].starts.length);
    const bar = createElement("div", "bar");
    bar.append(buttonGroup("Rule", data.rules.map((r, n) => [n, r.name]), this.rule, (v) => { this.rule = Number(v); this.draw(); }));
    if (data.sizes.length > 1) bar.append(buttonGroup("Size of a size-volume", data.sizes.map((s, n) => [n, s.name]), this.size, (v) => { this.size = Number(v); this.draw(); }));
    const controls = createElement("div", "bar"), total = data.draws[0][0].starts.length;
    this.slider = slider("Drawn", 1, total, 1, this.count, (v) => `${v} of ${total}`, (v) => { this.stop(); this.count = v; this.draw(); });
    this.playButton = button("Play", () => (this.timer ? this.stop() : this.start(total)));
    controls.append(button("Draw one", () => { this.stop(); this.step(total); }), this.playButton, this.slider);
    const body = createElement("div", "body"), panes = createElement("div", "panes");
    this.panes = PLANES.map(([name, horizontal, vertical]) => {
      const figure = createElement("figure"), canvas = createElement("canvas"), picture = new Image();
      picture.onload = () => this.draw();
      picture.src = data.slices[name];
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Middle ${name} slice with the outlines of the size-volumes`);
      figure.append(createElement("figcaption", "", name), canvas);
      panes.append(figure);
      return { canvas, picture, horizontal, vertical };
    });
    this.table = createElement("table");
    const side = createElement("div", "side");
    side.append(this.table);
    body.append(panes, side);
    this.description = createElement("div", "description");
    this.description.setAttribute("role", "status");
    this.root.append(bar, controls, body, this.description);
  }

  step(total) { this.count = this.count >= total ? 1 : this.count + 1; this.slider.set(this.count); this.draw(); }

  start(total) {
    this.playButton.textContent = "Pause";
    this.timer = setInterval(() => (this.count >= total ? this.stop() : this.step(total)), 60);
    if (this.count >= total) this.count = 0;
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.playButton.textContent = "Play";
  }

  close() { clearInterval(this.timer); super.close(); }

  draw() {
    const { shape, spacing, classes, share } = this.data, draws = this.data.draws[this.size][this.rule];
    const starts = draws.starts.slice(0, this.count), last = starts[starts.length - 1], size = draws.sub_volume;
    const accent = this.colour("--st-primary-color", "#7b6cf0");
    const scales = this.panes.map(({ canvas, horizontal }) => canvas.parentElement.clientWidth / (shape[horizontal] * spacing[horizontal]));
    const pixelsPerMm = Math.min(...scales);  // the same in all three planes
    if (!pixelsPerMm) return;
    for (const { canvas, picture, horizontal, vertical } of this.panes) {
      const sx = pixelsPerMm * spacing[horizontal], sy = pixelsPerMm * spacing[vertical];
      const g = canvasContext(canvas, Math.floor(shape[horizontal] * sx), Math.floor(shape[vertical] * sy));
      g.imageSmoothingEnabled = true;
      if (picture.complete) g.drawImage(picture, 0, 0, shape[horizontal] * sx, shape[vertical] * sy);
      const mirrored = this.data.oriented;
      const box = (start) => {
        const first = mirrored ? shape[horizontal] - start[horizontal] - size[horizontal] : start[horizontal];
        return [first * sx, (shape[vertical] - start[vertical] - size[vertical]) * sy, size[horizontal] * sx, size[vertical] * sy];
      };
      g.lineWidth = 1;
      g.strokeStyle = `rgb(255 255 255 / ${clamp(8 / this.count, 0.07, 0.4)})`;
      for (const start of starts.slice(0, -1)) g.strokeRect(...box(start));
      starts.forEach((start, n) => {
        const [x, y, w, h] = box(start);
        g.fillStyle = classAt(classes, draws.centres[n]).colour;
        g.fillRect(x + w / 2 - 2, y + h / 2 - 2, 4, 4);
      });
      g.lineWidth = 2.5;
      g.strokeStyle = accent;
      g.strokeRect(...box(last));
    }
    const shares = classes.map((_, c) => draws.shares.slice(0, this.count).reduce((sum, row) => sum + row[c], 0) / this.count);
    const centred = classes.map((_, c) => draws.centres.slice(0, this.count).filter((v) => v === c).length);
    this.fillTable(classes, share, shares, centred);
    const rule = this.data.rules[this.rule];
    this.description.textContent = `${rule.description} Sub-volume ${this.count} starts at voxel (${last.join(", ")}); its central voxel is ${classAt(classes, draws.centres[this.count - 1]).name}.`;
    Object.assign(this.root.dataset, { count: this.count, centred: centred.join(","), shares: shares.map((v) => v.toFixed(5)).join(","), rule: rule.foreground, start: last.join(",") });
  }

  // ``whole``, ``shares``: share of each class in the whole volume and in the drawn sub-volumes; ``centred``: count.
  fillTable(classes, whole, shares, centred) {
    const head = createElement("tr");
    head.append(...["Class", "in the whole volume", "in the sub-volumes", "at their centres"].map((t) => createElement("th", "", t)));
    const rows = classes.map((c, n) => {
      const line = createElement("tr"), name = createElement("td"), mark = createElement("i");
      mark.style.background = c.colour;
      name.append(mark, c.name);
      line.append(name, shareBar(whole[n], c.colour), shareBar(shares[n], c.colour), createElement("td", "", String(centred[n])));
      return line;
    });
    this.table.replaceChildren(head, ...rows);
  }
}

function shareBar(share, colour) {
  const cell = createElement("td"), track = createElement("span", "track"), filled = createElement("i");
  filled.style.width = `${100 * share}%`;
  filled.style.background = colour;
  track.append(filled);
  cell.append(track, percent(share));
  return cell;
}

export default component(SubVolumes);
