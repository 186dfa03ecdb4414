// Touch: one finger moves through slices, moves the crosshair or draws with a tool, or drags the line of swipe; a tap moves
// the crosshair; two fingers zoom and move.

const TAP_PX = 8, SLICE_PX = 7;
const FINGER_USES = [["slices", "slices"], ["crosshair", "crosshair"], ...TOOLS.filter(([name]) => name !== "crosshair")];

class Touch {
  constructor(viewer) {
    this.viewer = viewer;
    this.fingers = new Map(); // position by pointer
  }

  // What one finger does.
  get use() {
    const { tool, finger } = this.viewer.settings;
    return tool === "crosshair" ? finger : tool;
  }

  choose(use) {
    const isTool = use !== "crosshair" && TOOLS.some(([name]) => name === use);
    if (!isTool) this.viewer.settings.finger = use;
    this.viewer.tools.choose(isTool ? use : "crosshair");
  }

  down(event, pane) {
    const { viewer } = this;
    if (!viewer.touched) {
      viewer.touched = true;
      viewer.root.classList.add("touch");
      viewer.toolbar.build();
      viewer.layout();
    }
    if (!this.fingers.size) {
      Object.assign(this, { pane, start: [event.clientX, event.clientY], first: null, moved: false, several: false, draws: false });
      this.grips = viewer.compare.grips(pane, event);
    }
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.fingers.size > 1) this.several = true;
  }

  move(event) {
    if (!this.fingers.has(event.pointerId)) return;
    const before = this.centre();
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.fingers.size > 1) this.zoomAndMove(before, this.centre());
    else if (!this.several) this.slide(event);
  }

  up(event) {
    if (!this.fingers.delete(event.pointerId) || this.fingers.size || this.several) return;
    if (event.type === "pointerup" && !this.moved) this.viewer.moveCrosshair(this.pane, event);
  }

  // One finger.
  slide(event) {
    const { viewer, pane, start } = this, dx = event.clientX - start[0], dy = event.clientY - start[1];
    this.moved ||= Math.hypot(dx, dy) > TAP_PX;
    if (!this.moved) return;
    if (this.grips) return viewer.compare.drag(pane, event);
    if (this.use === "crosshair") return viewer.moveCrosshair(pane, event);
    if (this.use !== "slices") return this.draw(event);
    const { axis, slices } = viewer.views[pane.plane];
    this.first ??= viewer.voxel[axis];
    const step = Math.min(SLICE_PX, (2 * pane.height) / slices); // the height of a pane is at least half of all slices
    viewer.goTo(axis, this.first - Math.trunc((Math.abs(dy) >= Math.abs(dx) ? dy : -dx) / step));
  }

  // The tool, from where the finger was put down.
  draw(event) {
    const { viewer, pane, start } = this;
    if (!this.draws) viewer.tools.start(pane, { clientX: start[0], clientY: start[1] });
    this.draws = true;
    viewer.tools.move(pane, event);
  }

  // Middle of the fingers, and their distance.
  centre() {
    const [a, b = a] = [...this.fingers.values()];
    return { clientX: (a[0] + b[0]) / 2, clientY: (a[1] + b[1]) / 2, distance: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) };
  }

  // What was under the middle of two fingers stays there.
  zoomAndMove(before, now) {
    const { viewer, pane } = this, view = viewer.views[pane.plane], held = pane.position(before);
    viewer.zoom = clamp((viewer.zoom * now.distance) / before.distance, 1, MAX_ZOOM);
    if (viewer.zoom === 1) viewer.fit();
    else {
      const there = pane.position(now), [u, w] = fromVoxel(view, viewer.focus);
      viewer.centreOn(view, u + held[0] - there[0], w + held[1] - there[1]);
    }
    viewer.requestRender();
  }
}
