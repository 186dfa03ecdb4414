// Position, intensities and labels at the crosshair, in words that say in which frame they count; and the field that
// moves the crosshair to typed coordinates.

const FRAMES = {
  voxel: { title: "RAS voxel (from 1)", help: "index along right, anterior, superior, as on the panes; the first is 1" },
  mm: { title: "RAS mm", help: "millimetres to the right, anterior and superior, as the file's affine says" },
  file: { title: "file index (from 0)", help: "index in the array as the file stores it; the first is 0, as in nibabel and NumPy" },
};
const PLAIN_VOXEL = { title: "voxel (from 1)", help: "index along the axes as stored, as the orientation is unknown; the first is 1" };
const TILT_HELP = "Slices follow the voxel axes, which are not those of the patient; volumes and distances take that into account.";

class Readout {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "below");
    this.values = element("div", "readout");
    this.form = element("form", "goto");
    this.frame = "voxel";
    this.frames = element("span");
    this.field = element("input");
    Object.assign(this.field, { type: "text", placeholder: "x, y, z", autocomplete: "off" });
    this.field.setAttribute("aria-label", "Go to coordinates");
    this.message = text("span", "", "message");
    this.message.setAttribute("role", "status");
    this.form.append(this.frames, this.field, button("Go", () => this.go()), this.message);
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.go(); });
    this.form.addEventListener("keydown", (event) => event.stopPropagation()); // letters are no shortcuts here
    this.form.hidden = true; // until there is a volume
    this.root.append(this.values, this.form);
  }

  frameOf(name) {
    return name === "voxel" && !this.viewer.grid.affine ? PLAIN_VOXEL : FRAMES[name];
  }

  build() {
    const { grid } = this.viewer;
    const frames = ["voxel", ...(grid.affine ? ["mm"] : []), ...(grid.file_axes ? ["file"] : [])];
    if (!frames.includes(this.frame)) this.frame = frames[0];
    const titled = (name) => this.frameOf(name).title.split(" (")[0]; // the values beside it say where they count from
    const group = switchGroup("Frame of the coordinates", frames.map((name) => [name, titled(name)]), () => this.frame, (name) => { this.frame = name; group.refresh(); });
    group.refresh();
    this.frames.replaceChildren(group);
    this.form.hidden = false;
  }

  go() {
    const { viewer } = this, { grid } = viewer, numbers = this.field.value.trim().split(/[\s,;]+/).map(Number);
    this.message.textContent = "";
    if (numbers.length !== 3 || !numbers.every(Number.isFinite) || !this.field.value.trim()) {
      this.message.textContent = "Expected three numbers, for example 34, 50, 20.";
      return;
    }
    const { frame } = this;
    const target = frame === "mm" ? mmToVoxel(grid, numbers) : frame === "file" ? fromFileIndex(grid, numbers) : numbers.map((n) => n - 1);
    const voxel = target.map(Math.round);
    if (!voxel.every((n, a) => n >= 0 && n < grid.shape[a])) {
      const corner = (at) => this.describe(frame, at).join(", "), last = grid.shape.map((n) => n - 1);
      this.message.textContent = `Outside of the volume, which reaches from ${corner([0, 0, 0])} to ${corner(last)}.`;
      return;
    }
    viewer.voxel = voxel;
    viewer.keepInView();
    viewer.crosshairMoved();
  }

  // Coordinates of a voxel in a frame, as text.
  describe(frame, voxel) {
    const { grid } = this.viewer;
    if (frame === "mm") return voxelToMm(grid, voxel).map((n) => n.toFixed(millimetreDigits(grid)));
    return (frame === "file" ? toFileIndex(grid, voxel) : voxel.map((n) => n + 1)).map(String);
  }

  render() {
    const v = this.viewer, { grid, voxel } = v;
    const known = v.known?.at === `${v.data.image} ${voxel.join()}` ? v.known.values : {};
    const place = (frame) => { const { title, help } = this.frameOf(frame); return [title, this.describe(frame, voxel).join(", "), help]; };
    const parts = [place("voxel"), grid.affine ? place("mm") : ["RAS mm", "orientation unknown"]];
    if (grid.file_axes) parts.push(place("file"));
    if (grid.tilt) parts.push(["axes", grid.tilt, TILT_HELP]);
    v.data.channels.forEach((c, n) => {
      const stored = v.scene.imageAt(n, voxel), value = intensity(c, v.scene.channels[n].levels, stored);
      if (stored === undefined) parts.push([c.name, "…"]);
      else if (c.exact) parts.push([c.name, exactly(value)]);
      else if (n in known) parts.push([c.name, exactly(known[n])]);
      else parts.push([c.name, isEnd(stored) ? "…" : `≈ ${short(value)}`]); // rounded
    });
    v.askIntensities();
    for (const name of Object.keys(v.scene.layers)) {
      const index = v.scene.layerAt(name, voxel);
      parts.push([v.titleOf(name), index === undefined ? "…" : v.nameOf(index)]);
    }
    if (v.rows.includes(CHANGES)) parts.push([CHANGES, v.second.describe(comparedLayers(CHANGES).map((name) => v.scene.layerAt(name, voxel)))]);
    if (v.epochs.isShown) {
      const index = v.epochs.voxel(voxel);
      parts.push([v.epochs.titleOf(EPOCH), index === undefined ? "…" : v.nameOf(index)]);
      if (v.rows.includes(EPOCH_ERRORS)) parts.push([v.epochs.titleOf(EPOCH_ERRORS), v.errors.describe(v.scene.layerAt("truth", voxel), index)]);
    }
    if (v.rows.includes("errors")) parts.push(["error", v.errors.describe(v.scene.layerAt("truth", voxel), v.scene.layerAt("prediction", voxel))]);
    for (const { name, scale, help } of v.data.heat.filter((layer) => v.rows.includes(layer.name))) {
      const stored = v.scene.heat.at(name, voxel);
      parts.push([name, stored === undefined ? "…" : heatText(scale, stored), help]);
    }
    this.values.replaceChildren(...parts.map(([name, value, help]) => {
      const span = element("span");
      if (help) span.title = help;
      span.append(text("em", name), value);
      return span;
    }));
  }
}

// A true value: whole numbers in full, others to six digits.
function exactly(value) {
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? String(value) : String(Number(value.toPrecision(6)));
}

function short(value) {
  return Math.abs(value) >= 1000 || Number.isInteger(value) ? String(Math.round(value)) : value.toPrecision(3);
}
