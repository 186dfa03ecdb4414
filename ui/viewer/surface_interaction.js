// Mouse and keyboard of the surfaces in 3D: turn, move, zoom, and what is at a place.

const CLICK_PX = 4, SURFACE_ZOOM = 1.25, SHIFT_SHARE = 0.1;
const SURFACE_KEYS = "Drag or arrow keys turn; Shift and a drag or arrow keys move; + and − zoom; a click or Enter moves the crosshair; 1 to 6 look from a side, 0 resets, C cuts, I shows the image, V changes the colours.";

// Base class of Surfaces (surfaces.js).
class SurfaceInteraction {
  listen() {
    const { canvas, camera } = this, pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, moved: 0 });
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before.x, dy = event.clientY - before.y, other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) camera.zoomBy(Math.hypot(event.clientX - other.x, event.clientY - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y)));
      else if (event.shiftKey || event.buttons & 6) this.move(dx, dy);
      else camera.turn(dx * 0.01, dy * 0.01);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, moved: before.moved + Math.abs(dx) + Math.abs(dy) + (other ? CLICK_PX : 0) });
      this.turned();
    });
    canvas.addEventListener("pointerup", (event) => {
      const pointer = pointers.get(event.pointerId), box = canvas.getBoundingClientRect();
      if (pointer && pointer.moved < CLICK_PX && event.button === 0) this.pick(event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
      pointers.delete(event.pointerId);
    });
    canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => { // the page scrolls on, unless the surfaces have the focus
      if (!event.ctrlKey && !canvas.matches(":focus")) return;
      event.preventDefault();
      camera.zoomBy(Math.exp(-clamp(event.deltaY, -200, 200) / 300));
      this.turned();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.renderer.prepare(); this.drawn = ""; this.render(); });
  }

  move(dx, dy) {
    const s = this.camera.scale(this.space.clientWidth, this.space.clientHeight);
    this.camera.shift = [this.camera.shift[0] + dx / s, this.camera.shift[1] - dy / s];
  }

  // Draw in the next frame; the choice of the view follows.
  turned() {
    const views = this.bar.querySelector("select[aria-label=View]");
    if (views) views.value = this.camera.view;
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.render(); });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.state !== "done") return;
    const { camera } = this, step = SHIFT_SHARE * this.space.clientHeight;
    const arrow = (x, y) => () => (event.shiftKey ? this.move(x * step, y * step) : camera.turn(x * TURN, y * TURN));
    const action = {
      arrowleft: arrow(-1, 0), arrowright: arrow(1, 0), arrowup: arrow(0, -1), arrowdown: arrow(0, 1),
      "+": () => camera.zoomBy(SURFACE_ZOOM), "=": () => camera.zoomBy(SURFACE_ZOOM), "-": () => camera.zoomBy(1 / SURFACE_ZOOM),
      0: () => camera.reset(), enter: () => this.pick(0, 0), c: () => this.flip("cut"), i: () => this.flip("slice"),
      v: () => { if (this.isCompared) { this.settings.colouring = this.settings.colouring === "class" ? "distance" : "class"; this.applied(); } },
      ...Object.fromEntries(SURFACE_VIEWS.map(([name], n) => [n + 1, () => camera.look(name)])),
    }[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
    this.turned();
  }

  // Move the crosshair to what is seen at a position, from the centre, in CSS pixels.
  pick(x, y) {
    const v = this.viewer, { camera, space } = this, point = camera.through(x, y, space.clientWidth, space.clientHeight);
    const rectangle = sliceRectangle(v.grid, v.active, v.voxel), cut = this.cutAt(rectangle);
    const isCut = (mm) => cut !== null && dot(mm, cut.normal) > cut.offset + 1e-6;
    const solid = this.layers().filter(({ alpha }) => alpha === 1).map(({ surface }) => surface);
    const hit = hitSurface(solid.length ? solid : this.visible, camera, point, isCut), inSlice = this.settings.slice ? hitRectangle(rectangle, camera, point) : null;
    const onSlice = inSlice && (!hit || dot(inSlice, camera.axes.toward) > hit.depth), mm = onSlice ? inSlice : hit?.mm;
    if (!mm) return this.tell("There is no surface at this place");
    v.voxel = surfaceToVoxel(v.grid, mm).map((n, axis) => clamp(Math.round(n), 0, v.grid.shape[axis] - 1));
    v.keepInView();
    v.crosshairMoved();
    this.tell(onSlice ? "" : this.placeOf(hit));
  }

  // What a point on a surface is.
  placeOf({ surface, vertex }) {
    const [of, other] = surface.side === "truth" ? ["reference", "prediction"] : ["prediction", "reference"], steps = surface.distances?.[vertex];
    const mm = Math.abs(steps * this.data.step_mm).toFixed(1), side = steps < 0 ? "inside" : "outside";
    const distance = steps === undefined ? "" : steps === NO_DISTANCE ? ", not compared" : `, ${mm} mm ${side} the ${other}`;
    return `${this.data.structures[surface.structure].name}, ${of}${distance}`;
  }
}
