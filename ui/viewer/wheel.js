// Decides whether the wheel moves through slices or scrolls the page. It belongs to a pane that has the focus, or onto
// which the pointer was moved and where it rested; what scrolls under a still pointer takes no wheel. A turn of the wheel
// that began on the page stays with the page; at the last slice the page scrolls on.

const REST_POINTER_MS = 250, GESTURE_MS = 400, STOP_MS = 200;

class Wheel {
  constructor(viewer) {
    this.viewer = viewer;
    this.last = -Infinity; // time of the last wheel event anywhere
    this.moved = -Infinity; // time of the last change of the slice
    this.onMove = (event) => this.pointerMoved(event);
    this.onWheel = () => this.turned();
    this.onUntaken = () => { if (this.owner === undefined) this.leave(); };
    window.addEventListener("pointermove", this.onMove, { capture: true, passive: true });
    window.addEventListener("wheel", this.onWheel, { capture: true, passive: true }); // before any pane
    window.addEventListener("wheel", this.onUntaken, { passive: true }); // after all panes
  }

  close() {
    clearTimeout(this.timer);
    window.removeEventListener("pointermove", this.onMove, { capture: true });
    window.removeEventListener("wheel", this.onWheel, { capture: true });
    window.removeEventListener("wheel", this.onUntaken);
  }

  // A pane takes the wheel once the pointer rests on it. Browsers also report a still pointer when the page scrolls.
  pointerMoved(event) {
    const place = `${event.screenX},${event.screenY}`;
    if (event.pointerType === "touch" || place === this.place) return;
    this.place = place;
    const pane = this.viewer.panes.find(({ canvas }) => event.composedPath()[0] === canvas);
    if (pane === this.over) return;
    this.over = pane;
    this.rest(null);
    clearTimeout(this.timer);
    if (pane) this.timer = setTimeout(() => this.rest(pane), REST_POINTER_MS);
  }

  rest(pane) {
    this.rested?.canvas.removeAttribute("data-wheel");
    this.rested = pane;
    if (pane) pane.canvas.dataset.wheel = "slices";
  }

  // Each wheel event: one after a pause begins a turn, which no pane has taken yet.
  turned() {
    const now = performance.now();
    if (now - this.last > GESTURE_MS) this.owner = undefined;
    this.last = now;
  }

  // The page keeps this turn.
  leave() {
    this.owner = null;
    this.over = undefined;
    clearTimeout(this.timer);
    this.rest(null);
  }

  // Whether a pane takes the wheel event; atEnd: there is no further slice in its direction.
  takes(pane, atEnd) {
    if (this.owner === undefined && (pane === this.rested || this.viewer.panes.some((p) => p.canvas.matches(":focus")))) this.owner = pane;
    if (this.owner !== pane) return false;
    if (!atEnd) this.moved = performance.now();
    else if (performance.now() - this.moved > STOP_MS) this.owner = null;
    return this.owner === pane;
  }
}
