// Mouse and keyboard of a viewer: slices, crosshair, window, zoom.

const REST_MS = 400, ASK_MS = 150, NOTCH = 40, MAX_ZOOM = 24;

// Base class of Viewer (viewer.js).
class Interaction {
  goTo(axis, slice) {
    const next = clamp(Math.round(slice), 0, this.grid.shape[axis] - 1);
    if (!Number.isFinite(next) || next === this.voxel[axis]) return;
    this.voxel[axis] = next;
    this.crosshairMoved();
  }

  crosshairMoved() {
    crosshairs.set(this.data.image, [...this.voxel]);
    this.placed = [...this.voxel];
    this.tools.follow();
    this.requestRender();
    this.changed();
  }

  // Report crosshair and look to the page once they rest.
  changed() {
    if (!this.data?.reportSettled || this.settled === undefined) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (!this.closed && this.settledState() !== this.settled) this.reportNow();
    }, REST_MS);
  }

  reportNow() {
    const now = this.settledState();
    clearTimeout(this.timer);
    if (now === this.reported) return;
    this.settled = this.reported = now;
    const settled = JSON.parse(now);
    this.looks.add(settled.look);
    this.report(settled);
  }

  // Report also a crosshair that was not moved where a control of the page that depends on it is used: `element` is in
  // the container whose key is `placeFor`.
  reportFor(element) {
    const { placeFor } = this.data ?? {}, isReady = !this.closed && !this.root.classList.contains("loading");
    if (placeFor && isReady && element?.closest?.(`.st-key-${placeFor}`)) this.reportNow();
  }

  // Includes the image, since a report can arrive after the page has switched to another case.
  settledState() {
    return JSON.stringify({ voxel: this.voxel, look: lookOf(this), image: this.data.image });
  }

  paneOf(event) {
    return this.panes.find((pane) => pane.canvas === event.target);
  }

  listen() {
    const s = this.stage;
    this.listening = new AbortController();
    for (const kind of ["focusin", "pointerdown"]) {
      document.addEventListener(kind, (event) => this.reportFor(event.target), { signal: this.listening.signal });
    }
    document.addEventListener("keydown", (event) => this.keyOfPage(event), { signal: this.listening.signal });
    s.addEventListener("wheel", (event) => {
      const pane = this.paneOf(event);
      if (!pane || !this.scene) return;
      const amount = event.deltaMode === 1 ? event.deltaY * NOTCH : event.deltaMode === 2 ? event.deltaY * 400 : event.deltaY;
      const zooms = event.ctrlKey || event.metaKey, { axis, slices } = this.views[pane.plane];
      if (!zooms && !this.wheel.takes(pane, amount > 0 ? this.voxel[axis] === 0 : this.voxel[axis] === slices - 1)) return;
      event.preventDefault();
      this.active = pane.plane;
      if (zooms) return this.zoomAt(pane, Math.exp(-clamp(amount, -200, 200) / 300), event);
      // A notch of a wheel is one slice; the small steps of a touchpad add up to one.
      this.scrolled = Math.abs(amount) >= NOTCH ? Math.sign(amount) * NOTCH : (this.scrolled ?? 0) + amount;
      const steps = Math.trunc(this.scrolled / NOTCH);
      this.scrolled -= steps * NOTCH;
      if (steps) this.goTo(axis, this.voxel[axis] - steps);
    }, { passive: false });
    s.addEventListener("contextmenu", (event) => { if (this.paneOf(event)) event.preventDefault(); });
    s.addEventListener("pointerdown", (event) => {
      const pane = this.paneOf(event);
      if (!pane || !this.scene) return;
      event.preventDefault();
      pane.canvas.focus({ preventScroll: true });
      pane.canvas.setPointerCapture(event.pointerId);
      this.active = pane.plane;
      if (event.pointerType === "touch") return this.touch.down(event, pane);
      const measures = this.settings.tool !== "crosshair", left = this.compare.grips(pane, event) ? "swipe" : measures ? "measure" : "crosshair";
      const kind = event.button === 2 ? "window" : event.button === 1 || event.shiftKey ? "pan" : left;
      const channel = this.channelOf(pane.row);
      this.drag = { pane, kind, channel, x: event.clientX, y: event.clientY, window: this.windows.of(channel), focus: [...this.focus] };
      if (kind === "crosshair") this.moveCrosshair(pane, event);
      else if (kind === "measure") this.tools.start(pane, event);
      else this.requestRender();
    });
    s.addEventListener("pointermove", (event) => {
      const drag = this.drag;
      if (event.pointerType === "touch") return this.touch.move(event);
      if (!drag) return;
      const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
      if (drag.kind === "crosshair") this.moveCrosshair(drag.pane, event);
      else if (drag.kind === "pan") this.pan(drag, dx, dy);
      else if (drag.kind === "measure") this.tools.move(drag.pane, event);
      else if (drag.kind === "swipe") this.compare.drag(drag.pane, event);
      else {
        const { low, high } = this.data.channels[drag.channel], span = high - low, [a, b] = drag.window;
        const width = Math.max(span / 1000, (b - a) * Math.exp(dx / 200)), level = (a + b) / 2 + (dy / 400) * (b - a);
        this.windows.choose(drag.channel, { limits: [level - width / 2, level + width / 2] });
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      s.addEventListener(end, (event) => { this.drag = null; this.touch.up(event); });
    }
    s.addEventListener("focusin", (event) => { const pane = this.paneOf(event); if (pane) { this.active = pane.plane; this.hasKeyboard = true; } });
    s.addEventListener("focusout", () => setTimeout(() => { if (s.isConnected) this.hasKeyboard = s.contains(s.getRootNode().activeElement); }));
    s.addEventListener("pointermove", (event) => {
      // Keyboard focus follows the pointer from pane to pane.
      const pane = this.paneOf(event), focused = this.panes.find((p) => p.canvas.matches(":focus"));
      if (pane && focused && pane !== focused && !this.drag) pane.canvas.focus({ preventScroll: true });
    });
    s.addEventListener("keydown", (event) => this.key(event));
  }

  moveCrosshair(pane, event) {
    const [x, y] = pane.position(event), view = this.views[pane.plane], [a, b] = toVoxel(view, x, y);
    this.voxel[view.across] = clamp(Math.round(a), 0, view.width - 1);
    this.voxel[view.up] = clamp(Math.round(b), 0, view.height - 1);
    this.crosshairMoved();
  }

  zoomAt(pane, factor, event) {
    if (factor < 1 && this.zoom === 1) return this.showBox(true);
    const view = this.views[pane.plane], before = event ? pane.position(event) : null;
    const next = clamp(this.zoom * factor, 1, MAX_ZOOM);
    this.zoom = next;
    if (next === 1) this.fit();
    else if (before) { // the voxel under the pointer stays in place
      const after = pane.position(event), [u, w] = fromVoxel(view, this.focus);
      this.centreOn(view, u + before[0] - after[0], w + before[1] - after[1]);
    } else this.focus = [...this.voxel];
    this.requestRender();
  }

  // Show the content in each pane, or the whole grid.
  showBox(whole) {
    this.whole = whole;
    this.fit();
    this.layout();
  }

  fit() {
    this.box = this.whole ? gridBox(this.grid.shape) : this.content;
    this.zoom = 1;
    this.focus = this.box.map(([first, last]) => (first + last) / 2);
  }

  // Ask for the intensities at the crosshair once it rests there, where stored values are rounded.
  askIntensities() {
    const at = this.voxel.join(), { image, intensities } = this.data;
    if (!intensities || this.asked === `${image} ${at}`) return;
    this.asked = `${image} ${at}`;
    clearTimeout(this.askTimer);
    this.askTimer = setTimeout(async () => {
      const known = await fetchIntensities(this.data, this.voxel).catch(() => ({})); // then rounded values remain
      if (this.closed || this.data.image !== image || this.voxel.join() !== at) return;
      this.known = { at: `${image} ${at}`, values: known };
      this.readout.render();
    }, ASK_MS);
  }

  pan(drag, dx, dy) {
    if (this.zoom <= 1) return;
    const { view, sx, sy } = drag.pane.placement(), [u, w] = fromVoxel(view, drag.focus);
    this.centreOn(view, u - dx / sx, w - dy / sy);
    this.requestRender();
  }

  // In a zoomed view: move to the crosshair.
  keepInView() {
    if (this.zoom > 1) this.focus = [...this.voxel];
  }

  toggleOverlay() {
    this.set("overlayHidden", !this.settings.overlayHidden);
  }

  centreOn(view, u, w) {
    const [a, b] = toVoxel(view, clamp(u, 0, view.width), clamp(w, 0, view.height));
    this.focus[view.across] = a;
    this.focus[view.up] = b;
  }

  // Give the keyboard to a pane of the active plane.
  focusPane() {
    this.panes.find(({ plane }) => plane === this.active)?.canvas.focus({ preventScroll: true });
  }

  // The help opens also where nothing has the focus.
  keyOfPage(event) {
    if (event.key !== "?" || event.target !== document.body || event.defaultPrevented || !this.scene || !this.stage.offsetHeight) return;
    event.preventDefault();
    this.toolbar.toggleHelp();
  }

  key(event) {
    const pane = this.paneOf(event);
    // On some keyboards brackets are typed with Alt or AltGr, which Windows reports as Ctrl and Alt.
    const modified = event.ctrlKey || event.altKey, isBracket = event.altKey && /^[[\]]$/.test(event.key);
    if (!pane || !this.scene || event.metaKey || (modified && !isBracket)) return;
    const view = this.views[pane.plane], { axis } = view, now = this.voxel[axis], key = event.key.toLowerCase();
    const step = (dx, dy) => {
      this.voxel[view.across] = clamp(this.voxel[view.across] + (view.mirrored ? -dx : dx), 0, view.width - 1);
      this.voxel[view.up] = clamp(this.voxel[view.up] - dy, 0, view.height - 1);
      this.crosshairMoved();
    };
    const action = {
      arrowup: () => (event.shiftKey ? step(0, -1) : this.goTo(axis, now + 1)),
      arrowdown: () => (event.shiftKey ? step(0, 1) : this.goTo(axis, now - 1)),
      arrowleft: () => (event.shiftKey ? step(-1, 0) : this.goTo(axis, now - 1)),
      arrowright: () => (event.shiftKey ? step(1, 0) : this.goTo(axis, now + 1)),
      pageup: () => this.goTo(axis, now + 10),
      pagedown: () => this.goTo(axis, now - 10),
      home: () => this.goTo(axis, 0),
      end: () => this.goTo(axis, view.slices - 1),
      "+": () => this.zoomAt(pane, 1.25), "=": () => this.zoomAt(pane, 1.25), "-": () => this.zoomAt(pane, 0.8),
      0: () => this.showBox(false),
      a: () => this.showBox(!this.whole),
      f: () => this.set("style", "fill"), o: () => this.set("style", "outline"), b: () => this.set("style", "both"),
      h: () => this.toggleOverlay(),
      x: () => this.set("crosshair", !this.settings.crosshair),
      m: () => (event.shiftKey ? this.toggleModalities() : this.setChannel((this.settings.channel + 1) % this.data.channels.length)),
      s: () => this.toggleFull(),
      t: () => this.compare.blink(),
      3: () => this.surfaces.toggle(),
      u: () => this.maps.next(event.shiftKey ? -1 : 1),
      ",": this.epochs.rows.length && (() => this.epochs.step(-1)),
      ".": this.epochs.rows.length && (() => this.epochs.step(1)),
      "[": () => this.compare.step(-1), "]": () => this.compare.step(1),
      " ": () => this.cine.toggle(),
      d: () => this.tools.next(),
      enter: () => this.tools.anchor(pane),
      escape: this.tools.drawn && (() => this.tools.clear()),
      i: () => this.setSmooth(!this.settings.smooth),
      g: () => this.readout.field.focus(),
      "?": () => this.toolbar.toggleHelp(),
    }[key];
    if (!action) return;
    if (key !== " ") this.cine.stop();
    event.preventDefault();
    event.stopPropagation();
    action();
  }
}
