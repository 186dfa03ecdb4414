// What a drag with the left button does: move the crosshair, measure a length, or draw a box whose voxels are
// counted. By keys: Enter fixes one end at the crosshair, which is the other end until Enter is pressed again.

const TOOLS = [["crosshair", "move"], ["ruler", "ruler"], ["region", "region"]];
const TOOL_COLOUR = "#ffd666", TOOL_LINE = 1.5;

class Tools {
  constructor(viewer) {
    this.viewer = viewer;
    this.anchored = false;
    this.drawn = null; // { tool, image, plane, slice, from, to }: ends in pixels of the slice
    this.result = text("div", "", "measured");
    this.result.setAttribute("role", "status");
  }

  start(pane, event) {
    this.anchored = false;
    this.begin(pane, pane.position(event));
  }

  move(pane, event) {
    if (!this.drawn) return; // removed by a key while the pointer is down
    this.drawn.to = pane.position(event);
    this.describe();
  }

  // The scene has changed: what was drawn on another image is removed, figures of this one are worked out again.
  renew() {
    if (this.drawn && this.drawn.image !== this.viewer.data.image) this.clear();
    else if (this.drawn) this.describe();
  }

  clear() {
    this.drawn = null;
    this.anchored = false;
    this.describe();
  }

  // Fix an end at the crosshair.
  anchor(pane) {
    if (this.viewer.settings.tool === "crosshair") return;
    this.anchored = !this.anchored;
    if (!this.anchored) return;
    this.begin(pane, fromVoxel(this.viewer.views[pane.plane], this.viewer.voxel));
  }

  begin({ plane }, at) {
    const v = this.viewer, slice = v.voxel[v.views[plane].axis];
    this.drawn = { tool: v.settings.tool, image: v.data.image, plane, slice, from: at, to: at };
    this.describe();
  }

  // The crosshair has moved: it is the other end.
  follow() {
    if (!this.anchored) return;
    this.drawn.to = fromVoxel(this.viewer.views[this.drawn.plane], this.viewer.voxel);
    this.describe();
  }

  // Whether the drawing belongs to a slice of a pane.
  isOn(pane, slice) {
    const d = this.drawn;
    return Boolean(d && d.image === this.viewer.data.image && d.plane === pane.plane && d.slice === slice);
  }

  render(pane, context, at) {
    const { from, to, tool } = this.drawn, [x0, y0, x1, y1] = [at.x + from[0] * at.sx, at.y + from[1] * at.sy, at.x + to[0] * at.sx, at.y + to[1] * at.sy];
    for (const [style, width] of [[SHADOW, TOOL_LINE + 2], [TOOL_COLOUR, TOOL_LINE]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.beginPath();
      if (tool === "ruler") { context.moveTo(x0, y0); context.lineTo(x1, y1); }
      else context.rect(x0, y0, x1 - x0, y1 - y0);
      context.stroke();
    }
  }

  // Length in mm between two positions in a slice, also where the axes are not at right angles.
  length() {
    const { grid, views } = this.viewer, { plane, from, to } = this.drawn, view = views[plane];
    const steps = [0, 0, 0], [a0, b0] = toVoxel(view, ...from), [a1, b1] = toVoxel(view, ...to);
    steps[view.across] = a1 - a0;
    steps[view.up] = b1 - b0;
    const mm = grid.affine ? grid.affine.slice(0, 3).map((row) => row[0] * steps[0] + row[1] * steps[1] + row[2] * steps[2]) : steps.map((n, axis) => n * grid.spacing_mm[axis]);
    return Math.hypot(...mm);
  }

  // Columns and rows of the slice whose centres are inside the box: [first, last] each.
  span() {
    const { plane, from, to } = this.drawn, view = this.viewer.views[plane];
    return [0, 1].map((side) => {
      const [low, high] = [from[side], to[side]].sort((a, b) => a - b), size = side ? view.height : view.width;
      return [clamp(Math.ceil(low - 0.5), 0, size), clamp(Math.floor(high - 0.5), -1, size - 1)];
    });
  }

  // Voxels in the box: their number, mean and standard deviation of each modality that is shown, how many of them may be
  // clipped, and voxels by class of each layer; null while slices are fetched.
  statistics() {
    const v = this.viewer, { plane, slice } = this.drawn, view = v.views[plane], [[x0, x1], [y0, y1]] = this.span();
    const images = v.shownChannels.map((number) => ({ channel: v.data.channels[number], levels: v.scene.channels[number].levels, image: v.scene.image(number, view, slice), mean: 0, squares: 0, clipped: 0 }));
    const layers = Object.keys(v.scene.layers).map((name) => [name, v.scene.layer(name, view, slice)]);
    if (images.some(({ image }) => !image) || layers.some(([, layer]) => !layer)) return null;
    const offset = (layout, x, y) => layout.offset + x * layout.dx + y * layout.dy;
    let n = 0;
    const counts = new Map(layers.map(([name]) => [name, new Map()]));
    for (let y = y0; y <= y1; y++) for (let x = x0; x <= x1; x++) {
      n += 1;
      for (const one of images) {
        const stored = one.image.values[offset(one.image.layout, x, y)], value = intensity(one.channel, one.levels, stored), before = value - one.mean;
        if (!one.channel.exact && isEnd(stored)) one.clipped += 1;
        one.mean += before / n;
        one.squares += before * (value - one.mean);
      }
      for (const [name, layer] of layers) {
        const index = layer.values[offset(layer.layout, x, y)];
        counts.get(name).set(index, (counts.get(name).get(index) ?? 0) + 1);
      }
    }
    return { n, images: images.map(({ channel, mean, squares, clipped }) => ({ channel, mean, deviation: n > 1 ? Math.sqrt(squares / (n - 1)) : 0, clipped })), counts };
  }

  // The result in words, below the panes.
  describe() {
    const v = this.viewer;
    this.result.textContent = this.drawn ? (this.drawn.tool === "ruler" ? `Length ${this.length().toFixed(millimetreDigits(v.grid))} mm` : this.boxText()) : "";
    this.result.hidden = !this.drawn;
    v.requestRender();
  }

  boxText() {
    const v = this.viewer, found = this.statistics(), one = voxelMillilitres(v.grid);
    if (!found) return "Loading";
    if (!found.n) return "No voxel in the box";
    const parts = [`${count(found.n, "voxel")}, ${millilitres(found.n * one)}`];
    for (const { channel, mean, deviation, clipped } of found.images) {
      const about = channel.exact ? "" : "≈ "; // stored values may be rounded
      parts.push(`${channel.name}: mean ${about}${short(mean)}, standard deviation ${about}${short(deviation)}`);
      if (clipped) parts.push(`${count(clipped, "voxel")} at or beyond ${short(channel.low)} or ${short(channel.high)} counted with these values`);
    }
    for (const [name, counts] of found.counts) {
      const classes = [...counts].filter(([index]) => index).sort(([a], [b]) => a - b).map(([index, n]) => `${v.nameOf(index)} ${millilitres(n * one)}`);
      if (classes.length) parts.push(`${v.titleOf(name)}: ${classes.join(", ")}`);
    }
    return parts.join(" · ");
  }

  control() {
    const group = switchGroup("Drag", TOOLS, () => this.viewer.settings.tool, (tool) => this.choose(tool));
    group.title = "what a drag does (key D): move the crosshair, measure a length, or count the voxels of a region";
    return group;
  }

  choose(tool) {
    this.viewer.settings.tool = tool;
    this.clear();
    this.viewer.toolbar.refresh();
  }

  next() {
    const names = TOOLS.map(([name]) => name);
    this.choose(names[(names.indexOf(this.viewer.settings.tool) + 1) % names.length]);
  }
}
