// Dice per slice of the active plane as bars; a click moves to a slice.

const STRIP_HEIGHT = 54;

class Strip {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "strip");
    this.title = element("div", "caption");
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.root.append(this.title, this.canvas);
    const moveTo = (event) => {
      const box = this.canvas.getBoundingClientRect(), view = this.viewer.views[this.viewer.active];
      const slice = Math.floor(((event.clientX - box.left) / box.width) * view.slices);
      this.viewer.goTo(view.axis, slice);
    };
    this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); this.dragging = true; moveTo(event); });
    this.canvas.addEventListener("pointermove", (event) => { if (this.dragging) moveTo(event); });
    this.canvas.addEventListener("pointerup", () => { this.dragging = false; });
    this.canvas.addEventListener("pointercancel", () => { this.dragging = false; });
  }

  // Recount on the next render: the scene or the visible classes have changed.
  invalidate() {
    this.dice = null;
  }

  // Mean Dice of each slice along each axis, over the visible classes of truth or prediction in the slice.
  count() {
    const v = this.viewer, { truth, prediction } = v.scene.layers, [ni, nj, nk] = v.grid.shape, visible = v.shownClasses;
    const n = v.classes.length + 1, sizes = [ni, nj, nk];
    const both = sizes.map((s) => new Uint32Array(s * n)), sum = sizes.map((s) => new Uint32Array(s * n));
    for (let k = 0, at = 0; k < nk; k++) for (let j = 0; j < nj; j++) for (let i = 0; i < ni; i++, at++) {
      const t = visible[truth[at]], p = visible[prediction[at]];
      if ((!t && !p) || truth[at] === IGNORED) continue;
      sum[0][i * n + t]++; sum[1][j * n + t]++; sum[2][k * n + t]++;
      sum[0][i * n + p]++; sum[1][j * n + p]++; sum[2][k * n + p]++;
      if (t === p) { both[0][i * n + t]++; both[1][j * n + t]++; both[2][k * n + t]++; }
    }
    this.dice = sizes.map((s, axis) => Array.from({ length: s }, (_, slice) => {
      let total = 0, scored = 0;
      for (let c = 1; c < n; c++) {
        const all = sum[axis][slice * n + c];
        if (all) { total += (2 * both[axis][slice * n + c]) / all; scored++; }
      }
      return scored ? total / scored : null;
    }));
  }

  render() {
    const v = this.viewer;
    this.root.hidden = !v.data.diceStrip || !v.hasErrors || Boolean(v.scene.streamed); // a strip needs all voxels
    if (this.root.hidden) return;
    if (!this.dice) this.count();
    const view = v.views[v.active], dice = this.dice[view.axis], now = v.voxel[view.axis];
    const width = this.root.clientWidth, ratio = window.devicePixelRatio || 1;
    this.canvas.style.height = `${STRIP_HEIGHT}px`;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(STRIP_HEIGHT * ratio);
    const context = this.canvas.getContext("2d"), step = width / view.slices;
    context.scale(ratio, ratio);
    context.strokeStyle = v.style.border;
    context.lineWidth = 1;
    for (const level of [0, 0.5, 1]) {
      const y = Math.round(2 + (1 - level) * (STRIP_HEIGHT - 4)) + 0.5;
      context.beginPath(); context.moveTo(0, y); context.lineTo(width, y); context.stroke();
    }
    dice.forEach((value, slice) => {
      if (value === null) return;
      const height = Math.max(1.5, value * (STRIP_HEIGHT - 4));
      context.fillStyle = slice === now ? v.style.primary : v.style.faint;
      context.fillRect(slice * step, STRIP_HEIGHT - 2 - height, Math.max(1, step - (step > 3 ? 1 : 0)), height);
    });
    context.strokeStyle = v.style.primary;
    context.lineWidth = 1.5;
    context.beginPath(); context.moveTo((now + 0.5) * step, 0); context.lineTo((now + 0.5) * step, STRIP_HEIGHT); context.stroke();
    const value = dice[now], score = value === null ? "no label" : value > 0 && value < 0.001 ? value.toFixed(5) : value.toFixed(3);
    this.title.textContent = `Dice per ${v.active} slice (mean of the visible classes) · slice ${now + 1}: ${score}`;
    this.canvas.setAttribute("aria-label", this.title.textContent);
  }
}
