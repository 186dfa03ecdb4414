// Plays the slices of the active plane one after the other, until a key, a click or the wheel.

const CINE_MS = 90;

class Cine {
  constructor(viewer) {
    this.viewer = viewer;
    for (const kind of ["pointerdown", "wheel"]) viewer.stage.addEventListener(kind, () => this.stop(), { capture: true, passive: true });
  }

  get plays() {
    return this.timer !== undefined;
  }

  toggle() {
    if (this.plays) this.stop();
    else this.timer = setInterval(() => this.next(), CINE_MS);
    this.viewer.toolbar.refresh();
  }

  next() {
    const { viewer } = this, { axis, slices } = viewer.views[viewer.active];
    viewer.goTo(axis, (viewer.voxel[axis] + 1) % slices);
  }

  stop() {
    if (!this.plays) return;
    clearInterval(this.timer);
    this.timer = undefined;
    this.viewer.toolbar.refresh();
  }
}
