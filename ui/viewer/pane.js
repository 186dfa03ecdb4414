// A pane: one slice of the image with its overlay, on one canvas.

const TEXT = "rgba(255,255,255,0.78)", SHADOW = "rgba(0,0,0,0.85)", CROSSHAIR = "rgba(255,214,102,0.6)";
const CROSSHAIR_GAP = 9, EDGE = 18, FONT_SIZE = 11, LINE = 14; // pixels
const MAX_RATIO = 3;
const SCALE_SHARE = 0.3; // of the width of a pane that a scale bar may take

class Pane {
  constructor(viewer, plane, row) {
    this.viewer = viewer;
    this.plane = plane;
    this.row = row;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "pane";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.dataset.plane = plane;
    this.canvas.dataset.row = row;
    this.base = document.createElement("canvas"); // all but the crosshair
    this.image = document.createElement("canvas"); // one pixel per voxel
    this.overlay = document.createElement("canvas"); // one pixel per voxel
    this.hatch = document.createElement("canvas"); // the hatching over ignored voxels
  }

  // Size on the page in CSS pixels.
  resize(width, height) {
    const ratio = screenRatio();
    this.width = width;
    this.height = height;
    this.ratio = ratio;
    const w = Math.round(width * ratio), h = Math.round(height * ratio);
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
    }
  }

  // Placement of the slice: its top left corner and the size of a voxel, in CSS pixels.
  placement() {
    const v = this.viewer, view = v.views[this.plane], scale = v.scale * v.zoom;
    const sx = scale * view.spacing[0], sy = scale * view.spacing[1];
    const [u, w] = fromVoxel(view, v.focus);
    return { view, sx, sy, x: this.width / 2 - u * sx, y: this.height / 2 - w * sy };
  }

  // Position of a pointer event in the slice, in pixels of the slice.
  position(event) {
    const box = this.canvas.getBoundingClientRect(), { x, y, sx, sy } = this.placement();
    return [(event.clientX - box.left - x) / sx, (event.clientY - box.top - y) / sy];
  }

  // While only the crosshair moves, the rest is copied from the base canvas.
  render() {
    const v = this.viewer, at = this.placement(), { view } = at, slice = v.voxel[view.axis];
    const { width, height } = this.canvas, context = this.canvas.getContext("2d", { alpha: false });
    if (!width || !height) return; // a pane without room, as while the page is left
    const placement = [at.x, at.y, at.sx, at.sy].map((n) => n.toFixed(3)).join(",");
    const signature = [slice, placement, width, height, v.revision].join(" ");
    if (this.signature !== signature) {
      if (this.base.width !== width || this.base.height !== height) { this.base.width = width; this.base.height = height; }
      this.renderBase(this.base.getContext("2d", { alpha: false }), at, slice);
      this.signature = signature;
      this.canvas.setAttribute("aria-label", [`${this.plane} slice ${slice + 1} of ${view.slices}`, ...v.titleLines(this.row)].join(", "));
      this.canvas.dataset.letters = Object.values(view.letters).join(""); // left, right, top, bottom
      this.canvas.dataset.slice = String(slice);
      this.canvas.dataset.at = placement;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.base, 0, 0);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (v.settings.crosshair) this.renderCrosshair(context, at);
    if (v.tools.isOn(this, slice)) v.tools.render(this, context, at);
  }

  renderBase(context, at, slice) {
    const v = this.viewer, { view } = at, r = this.ratio, layout = sliceLayout(view, v.grid.shape, slice);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.base.width, this.base.height);
    context.setTransform(r, 0, 0, r, 0, 0);
    const width = view.width * at.sx, height = view.height * at.sy;
    const image = v.scene.image(v.channelOf(this.row), view, slice);
    this.waiting = !image;
    if (!image) return this.renderText(context, at);
    fillPixels(this.image, layout, (pixels) => paintImage(pixels, image.values, image.layout, v.windows.table(v.channelOf(this.row))));
    context.imageSmoothingEnabled = v.settings.smooth;
    context.drawImage(this.image, at.x, at.y, width, height);
    if (v.scene.heat.has(this.row)) this.renderHeat(context, at, layout, width, height);
    else if (this.row === COMPARE) v.compare.render(this, context, at, layout, width, height);
    else if (this.row === CHANGES) this.renderChanges(context, at, layout, width, height);
    else if (!v.isImage(this.row)) this.renderOverlay(context, at, layout, width, height, this.row);
    this.renderText(context, at);
  }

  // The overlay of a layer, or of the errors.
  renderOverlay(context, at, layout, width, height, name) {
    const v = this.viewer, s = v.settings, count = layout.width * layout.height, compared = comparedLayers(name), errors = Boolean(compared);
    const [layer, other] = (compared ?? [name]).map((one) => v.layerSlice(one, at.view));
    this.waiting = !layer || (errors && !other);
    if (this.waiting) return;
    const indices = (this.indices = this.indices?.length === count ? this.indices : new Uint8Array(count));
    if (!errors || v.visible[IGNORED]) readClasses(indices, layer.values, layer.layout, v.visible);
    if (errors || s.style !== "outline") {
      const fill = errors ? (pixels) => paintErrors(pixels, layer.values, other.values, layer.layout, v.errors.colours) : (pixels) => paintClasses(pixels, indices, v.colours);
      fillPixels(this.overlay, layout, fill);
      context.imageSmoothingEnabled = false;
      context.drawImage(this.overlay, at.x, at.y, width, height);
    }
    if (!errors && s.style !== "fill") this.renderOutlines(context, at, indices, layout);
    if (v.visible[IGNORED]) this.renderHatch(context, at, indices, layout, width, height);
  }

  // Where only one of two predictions is right.
  renderChanges(context, at, layout, width, height) {
    const v = this.viewer, count = layout.width * layout.height;
    const layers = comparedLayers(CHANGES).map((name) => v.layerSlice(name, at.view));
    this.waiting = layers.some((layer) => !layer);
    if (this.waiting) return;
    const indices = layers.map((layer) => { const read = new Uint8Array(count); readClasses(read, layer.values, layer.layout, EVERY_CLASS); return read; });
    fillPixels(this.overlay, layout, (pixels) => v.second.paint(pixels, indices, v.shownClasses));
    context.imageSmoothingEnabled = false;
    context.drawImage(this.overlay, at.x, at.y, width, height);
  }

  renderHeat(context, at, layout, width, height) {
    const v = this.viewer, heat = v.scene.heat.slice(this.row, at.view, v.voxel[at.view.axis]);
    this.waiting = !heat;
    if (this.waiting) return;
    fillPixels(this.overlay, layout, (pixels) => paintHeat(pixels, heat.values, heat.layout, v.heatTables[this.row]));
    context.imageSmoothingEnabled = false;
    context.drawImage(this.overlay, at.x, at.y, width, height);
  }

  // Hatch the ignored voxels: lines at the resolution of the screen, in the shape of the voxels.
  renderHatch(context, at, indices, layout, width, height) {
    let any = false;
    fillPixels(this.overlay, layout, (pixels) => { any = paintIgnored(pixels, indices); });
    if (!any) return;
    const v = this.viewer, r = this.ratio, hatch = this.hatch;
    hatch.width = this.base.width;
    hatch.height = this.base.height;
    const g = hatch.getContext("2d");
    g.imageSmoothingEnabled = false;
    g.setTransform(r, 0, 0, r, 0, 0);
    g.drawImage(this.overlay, at.x, at.y, width, height);
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.globalCompositeOperation = "source-in";
    g.fillStyle = hatchPattern(g, v.ignore.colour, r);
    g.fillRect(0, 0, hatch.width, hatch.height);
    context.globalAlpha = Math.min(1, 0.3 + v.settings.opacity);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(hatch, 0, 0);
    context.setTransform(r, 0, 0, r, 0, 0);
    context.globalAlpha = 1;
  }

  // Outlines are filled rectangles on whole pixels, inside the class.
  renderOutlines(context, at, indices, layout) {
    const v = this.viewer, r = this.ratio, thick = Math.max(1, Math.round(v.settings.line * r)) / r;
    const snap = (n) => Math.round(n * r) / r;
    for (const [index, runs] of outlines(indices, layout.width, layout.height)) {
      context.fillStyle = index === IGNORED ? v.ignore.colour : v.classes[index - 1]?.colour ?? "#ffffff";
      for (let n = 0; n < runs.length; n += 6) {
        const x = snap(at.x + runs[n] * at.sx), y = snap(at.y + runs[n + 1] * at.sy);
        const nx = runs[n + 4], ny = runs[n + 5];
        if (nx) context.fillRect(nx > 0 ? x : x - thick, y, thick, snap(at.y + runs[n + 3] * at.sy) - y);
        else context.fillRect(x, ny > 0 ? y : y - thick, snap(at.x + runs[n + 2] * at.sx) - x, thick);
      }
    }
  }

  // Two lines through the voxel; the centre and the letters at the edges are left free.
  renderCrosshair(context, at) {
    const [u, w] = fromVoxel(at.view, this.viewer.voxel), x = at.x + u * at.sx, y = at.y + w * at.sy;
    context.strokeStyle = CROSSHAIR;
    context.lineWidth = 1;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [
      [EDGE, y, x - CROSSHAIR_GAP, y], [x + CROSSHAIR_GAP, y, this.width - EDGE, y],
      [x, EDGE, x, y - CROSSHAIR_GAP], [x, y + CROSSHAIR_GAP, x, this.height - EDGE],
    ]) { context.moveTo(x0, y0); context.lineTo(x1, y1); }
    context.stroke();
  }

  renderText(context, at) {
    const v = this.viewer, { view } = at, { letters } = view, w = this.width, h = this.height;
    const write = (text, x, y, align, weight = 500) => {
      context.font = `${weight} ${FONT_SIZE}px ${v.font}`;
      context.textAlign = align;
      context.textBaseline = "middle";
      context.lineWidth = 3;
      context.strokeStyle = SHADOW;
      context.strokeText(text, x, y);
      context.fillStyle = TEXT;
      context.fillText(text, x, y);
    };
    this.canvas.dataset.waiting = String(this.waiting);
    if (this.waiting) write(v.scene.heat.status(this.row), w / 2, h / 2, "center");
    if (h < 90) return;
    write(letters.left, 6, h / 2, "left", 700);
    write(letters.right, w - 6, h / 2, "right", 700);
    write(letters.top, w / 2, 10, "center", 700);
    write(letters.bottom, w / 2, h - 10, "center", 700);
    write(`${v.voxel[view.axis] + 1} / ${view.slices}`, w - 6, h - 10, "right");
    const [low, high] = v.windows.of(v.channelOf(this.row));
    this.canvas.dataset.window = `${short(low)} to ${short(high)}`;
    write(this.canvas.dataset.window, 6, h - 10, "left");
    // Beside the first line are the letter of the side and the tilt.
    [this.plane, ...v.titleLines(this.row)].forEach((line, n) => write(shortened(context, line, n ? w - 12 : w / 2 - 18), 6, 10 + n * LINE, "left", n ? 500 : 700));
    if (v.grid.tilt) write(v.grid.tilt, w - 6, 10, "right");
    if (v.settings.scaleBar) this.renderScaleBar(context, at, write);
  }

  // A bar of a round length in mm along the slice's horizontal axis.
  renderScaleBar(context, at, write) {
    const perMm = at.sx / at.view.spacing[0], mm = roundLength((this.width * SCALE_SHARE) / perMm), x = 6.5, y = this.height - 22.5;
    const line = [[x, y - 3, x, y], [x, y, x + mm * perMm, y], [x + mm * perMm, y - 3, x + mm * perMm, y]];
    for (const [style, width] of [[SHADOW, 3], [TEXT, 1]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.beginPath();
      for (const [x0, y0, x1, y1] of line) { context.moveTo(x0, y0); context.lineTo(x1, y1); }
      context.stroke();
    }
    write(mm < 0.1 ? `${Number((mm * 1000).toPrecision(1))} µm` : `${Number(mm.toPrecision(1))} mm`, x, y - 9, "left");
    this.canvas.dataset.scale = `${mm} mm, ${(mm * perMm).toFixed(2)} px`;
  }
}

// Pixels of a canvas per CSS pixel.
function screenRatio() {
  return Math.min(window.devicePixelRatio || 1, MAX_RATIO);
}

// The largest of 1, 2, 5, 10, ... that is not above a length.
function roundLength(length) {
  const power = 10 ** Math.floor(Math.log10(length)), digit = length / power;
  return power * (digit >= 5 ? 5 : digit >= 2 ? 2 : 1);
}

// A text cut to a width in pixels of the context's font.
function shortened(context, text, width) {
  let end = text.length;
  while (end > 1 && context.measureText(text.slice(0, end)).width > width) end--;
  return end < text.length ? `${text.slice(0, end)}…` : text;
}
