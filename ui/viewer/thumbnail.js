// Small pictures of a place in the volume: the slice of the active plane, cut out around a box, with the errors in it.

const THUMB_PX = 76, THUMB_VOXELS = 24, THUMB_MARGIN = 1.5; // side on the page; least width and margin of what is cut out

class Thumbnails {
  constructor(viewer) {
    this.viewer = viewer;
    this.image = element("canvas"); // one pixel per voxel
    this.overlay = element("canvas");
    this.asked = new Map(); // canvas -> what it is to show, in the order of the requests
    this.worked = null; // the scene whose pictures are being made
  }

  // Render a slice around a box, [first, last], or around a voxel; the slice is that of the voxel. Where slices are fetched,
  // one picture follows the other, so that panes do not wait for all of them.
  render(canvas, voxel, [first, last] = [voxel, voxel]) {
    const { scene } = this.viewer;
    this.asked.set(canvas, { voxel, first, last });
    if (this.worked === scene) return;
    this.worked = scene;
    this.work(scene);
  }

  // A picture that is no longer wanted.
  forget(canvas) {
    this.asked.delete(canvas);
  }

  // Until nothing is asked for, or the next case is shown.
  async work(scene) {
    while (this.worked === scene && this.asked.size) {
      const [[canvas, place]] = this.asked;
      this.asked.delete(canvas);
      try {
        await this.paint(canvas, place);
      } catch {} // a pane says what is wrong with the volume
    }
    if (this.worked === scene) this.worked = null;
  }

  async paint(canvas, { voxel, first, last }) {
    const v = this.viewer, { scene } = v, view = v.views[v.active], slice = voxel[view.axis];
    const [image, truth, prediction] = await scene.slices(v.settings.channel, ["truth", "prediction"], view, slice);
    if (v.closed || v.scene !== scene) return;
    const ratio = screenRatio(), side = Math.round(THUMB_PX * ratio), context = canvas.getContext("2d", { alpha: false });
    canvas.width = canvas.height = side;
    fillPixels(this.image, view, (pixels) => paintImage(pixels, image.values, image.layout, v.grey));
    fillPixels(this.overlay, view, (pixels) => paintErrors(pixels, truth.values, prediction.values, truth.layout, v.errors.colours));
    const [sx, sy] = view.spacing, [u, w] = fromVoxel(view, first.map((n, axis) => (n + last[axis]) / 2));
    const extent = (axis, mm) => (last[axis] - first[axis] + 1) * mm * THUMB_MARGIN;
    const wide = Math.max(extent(view.across, sx), extent(view.up, sy), THUMB_VOXELS * Math.min(sx, sy));
    const scale = side / wide; // pixels of the canvas per mm
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    const place = [side / 2 - u * sx * scale, side / 2 - w * sy * scale, view.width * sx * scale, view.height * sy * scale];
    context.imageSmoothingEnabled = v.settings.smooth;
    context.drawImage(this.image, ...place);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.overlay, ...place);
  }
}

// Fill a canvas with one pixel per voxel of a slice.
function fillPixels(canvas, layout, fill) {
  if (canvas.width !== layout.width || canvas.height !== layout.height) {
    canvas.width = layout.width;
    canvas.height = layout.height;
    canvas.data = null;
  }
  const context = canvas.getContext("2d", { willReadFrequently: true });
  canvas.data ??= context.createImageData(layout.width, layout.height);
  fill(new Uint32Array(canvas.data.data.buffer));
  context.putImageData(canvas.data, 0, 0);
}
