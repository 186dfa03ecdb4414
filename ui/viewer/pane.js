// One pane: a slice of the image with what lies over it, on a canvas of its own.

const INK = "rgba(255,255,255,0.78)", SHADOW = "rgba(0,0,0,0.85)", CROSS = "rgba(255,214,102,0.6)";
const GAP = 9, EDGE = 18, LETTER = 11; // pixels

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
    this.still = document.createElement("canvas");
    this.picture = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
  }

  // Give it a size on the page, in CSS pixels.
  resize(width, height) {
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
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

  // Where the slice lies: its top left corner and the size of a voxel, in CSS pixels.
  place() {
    const v = this.viewer, view = v.views[this.plane], scale = v.scale * v.zoom;
    const sx = scale * view.spacing[0], sy = scale * view.spacing[1];
    const [u, w] = fromVoxel(view, v.focus);
    return { view, sx, sy, x: this.width / 2 - u * sx, y: this.height / 2 - w * sy };
  }

  // The position in the slice (pixels of the slice) of a point on the page.
  at(event) {
    const box = this.canvas.getBoundingClientRect(), { x, y, sx, sy } = this.place();
    return [(event.clientX - box.left - x) / sx, (event.clientY - box.top - y) / sy];
  }

  // Draw it. While the crosshair alone moves, all that lies under it is only copied.
  draw() {
    const v = this.viewer, at = this.place(), { view } = at, slice = v.voxel[view.axis];
    const { width, height } = this.canvas, context = this.canvas.getContext("2d", { alpha: false });
    const where = [at.x, at.y, at.sx, at.sy].map((n) => n.toFixed(3)).join(",");
    const shown = [slice, where, width, height, v.revision].join(" ");
    if (this.shown !== shown) {
      if (this.still.width !== width || this.still.height !== height) { this.still.width = width; this.still.height = height; }
      this.drawStill(this.still.getContext("2d", { alpha: false }), at, slice);
      this.shown = shown;
      const layer = this.row === "image" ? "" : `, ${this.row}`;
      this.canvas.setAttribute("aria-label", `${this.plane} slice ${slice + 1} of ${view.slices}${layer}`);
      this.canvas.dataset.letters = Object.values(view.letters).join(""); // left, right, top, bottom
      this.canvas.dataset.slice = String(slice);
      this.canvas.dataset.at = where;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.still, 0, 0);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (v.settings.cross) this.drawCross(context, at);
  }

  // Everything but the crosshair.
  drawStill(context, at, slice) {
    const v = this.viewer, { view } = at, r = this.ratio, walk = walkOf(view, v.grid.shape, slice);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.still.width, this.still.height);
    context.setTransform(r, 0, 0, r, 0, 0);
    const width = view.width * at.sx, height = view.height * at.sy;
    this.paint(this.picture, walk, (pixels) => paintImage(pixels, v.scene.channels[v.settings.channel], walk, v.grey));
    context.imageSmoothingEnabled = true;
    context.drawImage(this.picture, at.x, at.y, width, height);
    if (this.row !== "image") this.drawOverlay(context, at, walk, width, height);
    this.drawWords(context, at);
  }

  // Fill a small canvas with one pixel per voxel.
  paint(canvas, walk, fill) {
    if (canvas.width !== walk.width || canvas.height !== walk.height) {
      canvas.width = walk.width;
      canvas.height = walk.height;
      canvas.data = null;
    }
    const context = canvas.getContext("2d", { willReadFrequently: true });
    canvas.data ??= context.createImageData(walk.width, walk.height);
    fill(new Uint32Array(canvas.data.data.buffer));
    context.putImageData(canvas.data, 0, 0);
  }

  drawOverlay(context, at, walk, width, height) {
    const v = this.viewer, { layers } = v.scene, s = v.settings, count = walk.width * walk.height;
    const found = (this.found = this.found?.length === count ? this.found : new Uint8Array(count));
    const errors = this.row === "errors";
    if (errors) readErrors(found, layers.truth, layers.prediction, walk, v.shown);
    else readClasses(found, layers[this.row], walk, v.shown);
    if (errors || s.style !== "outline") {
      this.paint(this.overlay, walk, (pixels) => paintClasses(pixels, found, errors ? v.errorColours : v.colours));
      context.imageSmoothingEnabled = false;
      context.drawImage(this.overlay, at.x, at.y, width, height);
    }
    if (!errors && s.style !== "fill") this.drawOutlines(context, at, found, walk);
  }

  // Runs are straight and lie along the axes: filled rectangles on whole pixels, inside of what they go around.
  drawOutlines(context, at, found, walk) {
    const v = this.viewer, r = this.ratio, thick = Math.max(1, Math.round(v.settings.line * r)) / r;
    const snap = (n) => Math.round(n * r) / r;
    for (const [index, runs] of outlines(found, walk.width, walk.height)) {
      context.fillStyle = v.classes[index - 1]?.colour ?? "#ffffff";
      for (let n = 0; n < runs.length; n += 6) {
        const x = snap(at.x + runs[n] * at.sx), y = snap(at.y + runs[n + 1] * at.sy);
        const nx = runs[n + 4], ny = runs[n + 5];
        if (nx) context.fillRect(nx > 0 ? x : x - thick, y, thick, snap(at.y + runs[n + 3] * at.sy) - y);
        else context.fillRect(x, ny > 0 ? y : y - thick, snap(at.x + runs[n + 2] * at.sx) - x, thick);
      }
    }
  }

  // Two lines through the voxel; the middle and the letters at the edges stay free.
  drawCross(context, at) {
    const [u, w] = fromVoxel(at.view, this.viewer.voxel), x = at.x + u * at.sx, y = at.y + w * at.sy;
    context.strokeStyle = CROSS;
    context.lineWidth = 1;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [
      [EDGE, y, x - GAP, y], [x + GAP, y, this.width - EDGE, y],
      [x, EDGE, x, y - GAP], [x, y + GAP, x, this.height - EDGE],
    ]) { context.moveTo(x0, y0); context.lineTo(x1, y1); }
    context.stroke();
  }

  drawWords(context, at) {
    const v = this.viewer, { view } = at, { letters } = view, w = this.width, h = this.height;
    const write = (text, x, y, align, weight = 500) => {
      context.font = `${weight} ${LETTER}px ${v.font}`;
      context.textAlign = align;
      context.textBaseline = "middle";
      context.lineWidth = 3;
      context.strokeStyle = SHADOW;
      context.strokeText(text, x, y);
      context.fillStyle = INK;
      context.fillText(text, x, y);
    };
    if (h < 90) return;
    write(letters.left, 6, h / 2, "left", 700);
    write(letters.right, w - 6, h / 2, "right", 700);
    write(letters.top, w / 2, 10, "center", 700);
    write(letters.bottom, w / 2, h - 10, "center", 700);
    write(`${v.voxel[view.axis] + 1} / ${view.slices}`, w - 6, h - 10, "right");
    const [low, high] = v.window;
    write(`${short(low)} to ${short(high)}`, 6, h - 10, "left");
    write(v.titleOf(this.row), 6, 10, "left");
  }
}

function short(value) {
  return Math.abs(value) >= 1000 || Number.isInteger(value) ? String(Math.round(value)) : value.toPrecision(3);
}
