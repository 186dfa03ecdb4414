// The slice viewer: panes of one volume with a common crosshair, zoom and window.
// Text from data goes through textContent or fillText only, never through HTML.

const MAX_ROW = 430, MAX_SINGLE_ROW = 640, MIN_ROW = 150, GAP = 6; // height of rows and space between panes, pixels
const MAX_COLUMNS = 4; // of panes of one plane
const NARROW = 560; // below it panes stand one above another, pixels
const viewers = new WeakMap(); // by element
const crosshairs = new Map(); // voxel of the crosshair by URL of the image
const reached = new Set(); // ids of targets that the crosshair was moved to
const revealed = new Set(); // ids of rows that were shown because the page asked for them

export default function ({ data, parentElement, setStateValue }) {
  let viewer = viewers.get(parentElement);
  if (!viewer) {
    viewer = new Viewer(parentElement, data);
    viewers.set(parentElement, viewer);
  }
  viewer.report = (settled) => setStateValue("settled", settled);
  viewer.show(data);
  return () => { viewer.close(); viewers.delete(parentElement); };
}

class Viewer extends Rows {
  constructor(parent, { key, look }) {
    super();
    this.host = parent.host ?? parent;
    this.root = parent.querySelector(".root");
    this.instance = key;
    this.path = location.pathname;
    this.looks = new Set(); // looks that the page has sent, and those reported to it
    this.settings = {
      style: "fill", opacity: 0.5, line: 1.5, radiological: true, scaleBar: true, hidden: new Set(), channel: 0,
      windows: new Map(), layouts: new Map(), overlayHidden: false, finger: "slices", hiddenErrors: new Set(), errorColouring: "kind",
      smooth: true, compare: "blink", swipe: 0.5, blinked: false, tool: "crosshair", ...rememberedSettings(),
    };
    this.stage = element("div", "stage");
    this.panes = [];
    this.full = false;
    this.touched = matchMedia("(pointer: coarse)").matches;
    this.root.classList.toggle("touch", this.touched);
    this.controls = element("div", "controls");
    this.fill = oneTabStop(this.controls, "Viewer");
    this.errors = new ErrorLayer(this);
    this.second = new SecondPrediction(this);
    this.epochs = new Epochs(this);
    this.compare = new Compare(this);
    this.cine = new Cine(this);
    this.tools = new Tools(this);
    this.windows = new Windows(this);
    this.toolbar = new Toolbar(this);
    this.maps = new HeatBars(this);
    this.legend = new Legend(this);
    this.readout = new Readout(this);
    this.strip = new Strip(this);
    this.wheel = new Wheel(this);
    this.touch = new Touch(this);
    this.fullScreen = new FullScreen(this);
    this.notice = element("div", "notice");
    this.notice.setAttribute("role", "status");
    this.stage.append(this.notice);
    this.controls.append(this.toolbar.root, this.toolbar.help, this.legend.root);
    this.findings = new Findings(this);
    this.surfaces = new Surfaces(this);
    this.place = element("div", "views");
    this.place.append(this.stage, this.surfaces.root);
    this.root.replaceChildren(this.controls, this.windows.root, this.place, this.tools.result, this.readout.root, this.strip.root, this.findings.root);
    this.rendered = 0; // number of rendered frames
    this.revision = 0; // counts all changes except of crosshair, slice and placement
    this.arrivals = 0; // of these, slices that have arrived
    this.isReplacement = takeOver(this, look);
    this.isFirst = !this.isReplacement; // then the page may ask for a look
    this.listen();
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.stage);
    this.forgetPixelRatio = onPixelRatioChange(() => this.layout());
  }

  close() {
    handOver(this);
    this.observer.disconnect();
    this.listening.abort();
    this.forgetPixelRatio();
    this.wheel.close();
    this.fullScreen.close();
    this.findings.close();
    this.surfaces.close();
    this.cine.stop();
    this.epochs.stop();
    this.scene?.heat.close();
    clearTimeout(this.timer);
    clearTimeout(this.askTimer);
    cancelAnimationFrame(this.frame);
    this.closed = true;
  }

  // ---- data -----------------------------------------------------------------------------------------------------

  show(data) {
    this.readTheme();
    const signature = JSON.stringify([data.image, data.layers, data.heat, data.epochs, data.grid]);
    const same = signature === this.signature;
    this.latest = data;
    this.looks.add(data.look);
    this.settings.crosshair ??= data.crosshair;
    if (same && this.loaded === signature) {
      this.data = this.described(data);
      this.update();
    } else if (!same) {
      this.signature = signature;
      this.load(data, signature);
    }
  }

  async load(data, signature) {
    this.showNotice(this.scene ? "" : "Loading the volume");
    this.root.classList.add("loading");
    this.root.dataset.ready = "";
    try {
      const scene = await fetchScene(
        data,
        (text, preview) => { if (signature === this.signature && (data.streamed || !this.scene)) this.showNotice(text, null, preview); },
        () => { if (signature === this.signature && !this.closed) this.slicesArrived(); },
      );
      if (signature !== this.signature || this.closed) return;
      const before = this.data;
      this.scene?.heat.close();
      this.scene = scene;
      this.loaded = signature;
      this.data = this.described(this.latest);
      this.grid = data.grid;
      this.classes = data.classes;
      this.ignore = data.ignore;
      this.hasErrors = Boolean(scene.layers.truth && scene.layers.prediction);
      const sameImage = before?.image === data.image, content = contentBox(data, scene);
      const centre = content.map(([first, last]) => (first + last) >> 1);
      if (!sameImage) this.placed = this.openingVoxel(data, before);
      this.voxel = [...((sameImage ? this.voxel : this.placed) ?? scene.fullest() ?? centre)].map((n, a) => clamp(n, 0, data.grid.shape[a] - 1));
      if (!sameImage) this.whole = false;
      if (!sameImage || String(content) !== String(this.content)) {
        this.content = content;
        const zoom = before && !sameImage ? this.zoom : 1; // the next image is shown at the zoom of the last one
        if (!sameImage || this.zoom === 1) this.fit();
        if (zoom > 1) Object.assign(this, { zoom, focus: [...this.voxel] });
      }
      this.update();
      // Reported are later changes, what differs from the page's values for another image, and colours that it lacks.
      const { start, look, image } = this.latest, known = JSON.stringify({ voxel: start ?? (this.placed ? null : this.voxel), look, image });
      const lacksColours = this.hasOwnColours && !/\bpalette:/.test(this.data.look);
      this.settled = lacksColours ? "" : before && (!sameImage || this.isReplacement) ? known : this.settledState();
      if (this.isReplacement && this.hasKeyboard && document.activeElement === document.body) this.focusPane();
      this.isReplacement = false;
      this.changed();
      this.showNotice("");
      this.root.dataset.ready = signature;
    } catch (error) {
      if (signature !== this.signature || this.closed) return;
      this.signature = "";
      this.showNotice(error.message, () => this.show(this.latest));
    } finally {
      if (signature === this.signature || !this.signature) this.root.classList.remove("loading");
      this.reportFor(document.activeElement);
    }
  }

  // Voxel at which an image is opened, or null: where the crosshair was in it, or where it was put in the image before.
  openingVoxel({ image, position, start }, before) {
    const seen = crosshairs.get(image), here = before && position !== "start" ? this.placed : null;
    return (position === "stay" ? here ?? seen : seen ?? here) ?? start;
  }

  // What the page sent, completed by what only the scene of a streamed image knows.
  described(data) {
    return { ...data, ...this.scene.described };
  }

  // Slices that panes lacked are there, or cannot be had.
  slicesArrived() {
    const problem = this.scene?.problem();
    if (problem) this.showNotice(problem.message, () => { this.signature = ""; this.show(this.latest); });
    this.tools.renew();
    this.legend.refresh();
    this.arrivals += 1;
    this.windows.changed();
  }

  // Apply a new scene or new options.
  update() {
    const s = this.settings, possible = this.possibleRows;
    const requested = JSON.stringify([this.data.rows, this.data.planes, this.data.plane]);
    // What was chosen in the toolbar is kept for each layout that a page asks for.
    if (!s.layouts.has(requested)) s.layouts.set(requested, { rows: this.data.rows, plane: this.data.plane ?? "all" });
    this.chosen = s.layouts.get(requested);
    if (this.isFirst) applyLook(this, this.data.look);
    this.isFirst = false;
    this.rows = this.chosen.rows.filter((row) => possible.includes(row));
    if (!this.rows.length) this.rows = ["image"];
    this.plane = this.data.planes.length > 1 ? this.chosen.plane : "all";
    if (s.channel >= this.data.channels.length) s.channel = 0;
    this.active ??= this.data.planes[0];
    if (!this.data.planes.includes(this.active)) this.active = this.data.planes[0];
    this.updateViews();
    this.findings.show(this.data.findings ?? ""); // before the legend, which shows volumes from it
    this.updateColours();
    this.toolbar.build();
    this.windows.changed();
    this.legend.build();
    this.readout.build();
    this.tools.renew();
    this.surfaces.show();
    this.layout();
    this.goToTarget();
    this.revealRow();
  }

  // Move the crosshair to the voxel that the page asks for, once.
  goToTarget() {
    const { target } = this.data;
    if (!target || reached.has(target.id)) return;
    reached.add(target.id);
    this.voxel = target.voxel.map((n, a) => clamp(n, 0, this.grid.shape[a] - 1));
    this.keepInView();
    this.crosshairMoved();
  }

  // Show the row that the page asks for beside the others, once.
  revealRow() {
    const { row, id } = this.data.reveal ?? {};
    if (!id || revealed.has(id) || !this.possibleRows.includes(row)) return;
    revealed.add(id);
    if (!this.rows.includes(row)) this.setRows([...this.rows, row]);
  }

  // `preview` is a picture of one slice, { url, slice, slices, ratio }, while the volume is read.
  showNotice(message, retry = null, preview = null) {
    let picture = this.notice.querySelector("img");
    if (preview && !picture?.src.endsWith(preview.url)) {
      picture ??= document.createElement("img"); // shows the slice before until the new one is there
      picture.src = preview.url;
      picture.alt = `Slice ${preview.slice + 1} of ${preview.slices}`;
      picture.style.aspectRatio = preview.ratio;
    }
    this.notice.replaceChildren(...(preview ? [picture] : []), text("span", message), ...(retry ? [button("Try again", retry)] : []));
    this.notice.hidden = !message;
  }

  readTheme() {
    const style = getComputedStyle(this.host), read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
    this.font = read("--st-font", "sans-serif");
    this.style = { primary: read("--st-primary-color", "#7b6cf0"), border: read("--st-border-color", "#8884"), faint: read("--st-gray-color", "#8b909a") };
  }

  // ---- settings -------------------------------------------------------------------------------------------------

  // Window of the chosen modality, and its greys by stored value.
  get window() {
    return this.windows.of(this.settings.channel);
  }

  get grey() {
    return this.windows.table(this.settings.channel);
  }

  setChannel(number) {
    this.settings.channel = number;
    this.toolbar.window.chosen = null;
    this.toolbar.build();
    this.tools.renew();
    this.windows.changed();
  }

  get hasOwnColours() {
    return this.classes.some(({ name }) => classColours.has(name));
  }

  set(name, value) {
    this.settings[name] = value;
    this.updateColours();
  }

  setRadiological(on) {
    this.settings.radiological = on;
    this.tools.clear();
    this.updateViews();
    rememberSettings(this.settings);
    this.requestRender(true);
  }

  setSmooth(on) {
    this.settings.smooth = on;
    rememberSettings(this.settings);
    this.requestRender(true);
  }

  // Colour tables, after a change of opacity, style, visible classes or their colours.
  updateColours() {
    const s = this.settings, alpha = s.overlayHidden ? 0 : s.style === "both" ? s.opacity * 0.6 : s.opacity;
    this.classes = recoloured(this.data.classes);
    this.shownClasses = visibleTable(this.classes, this.ignore, s.hidden);
    this.visible = s.overlayHidden ? new Uint8Array(256) : this.shownClasses;
    this.colours = new Uint32Array(256);
    this.classes.forEach((c, n) => { this.colours[n + 1] = rgba(c.colour, alpha); });
    this.errors.update();
    this.heatAlpha = s.overlayHidden ? 0 : Math.min(1, 0.35 + s.opacity);
    this.heatTables = Object.fromEntries(this.data.heat.map(({ name, scale }) => [name, heatTable(scale, this.heatAlpha)]));
    this.findings.invalidate();
    this.toolbar.refresh();
    this.legend.refresh();
    this.requestRender(true);
  }

  choosePlane(plane) {
    this.plane = this.chosen.plane = plane;
    this.toolbar.refresh();
    this.layout();
  }

  toggleFull() {
    return this.fullScreen.toggle();
  }

  // ---- layout ---------------------------------------------------------------------------------------------------

  updateViews() {
    this.views = Object.fromEntries(this.data.planes.map((p) => [p, planeView(p, this.grid, this.settings.radiological)]));
  }

  // One pane per row and plane, all at the same scale.
  layout() {
    if (!this.scene || !this.rows) return; // no scene yet
    this.changed();
    this.toolbar.refit();
    const { rows, plane } = this, planes = plane === "all" ? this.data.planes : [plane];
    const panes = [];
    for (const row of rows) for (const p of planes) {
      panes.push(this.panes.find((pane) => pane.plane === p && pane.row === row) ?? new Pane(this, p, row));
    }
    if (!planes.includes(this.active)) this.active = planes[0];
    const same = panes.length === this.panes.length && panes.every((pane, n) => pane === this.panes[n]);
    this.panes = panes;
    this.surfaces.place(planes.length === 1 ? rows.length : planes.length);
    const { paddingLeft, paddingRight } = getComputedStyle(this.stage);
    const width = this.stage.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    if (width < 40) return;
    const most = width < NARROW ? 1 : MAX_COLUMNS, lines = planes.length === 1 ? Math.ceil(rows.length / most) : rows.length;
    const columns = Math.ceil(panes.length / lines); // five panes are three and two
    const extent = (axis) => this.box[axis][1] - this.box[axis][0] + 1;
    const sizes = planes.map((p) => this.views[p]).map((v) => [extent(v.across) * v.spacing[0], extent(v.up) * v.spacing[1]]);
    const cell = Math.floor((width - GAP * (columns - 1)) / columns);
    const wide = Math.max(...sizes.map((s) => s[0])), high = Math.max(...sizes.map((s) => s[1]));
    const maxHeight = this.full ? Math.floor(this.fullScreen.height / lines) - GAP : this.data.height ?? (lines === 1 ? MAX_SINGLE_ROW : MAX_ROW);
    const height = this.full ? maxHeight : Math.round(clamp((cell * high) / wide, Math.min(MIN_ROW, maxHeight), maxHeight));
    this.scale = Math.min(cell / wide, height / high);
    for (const pane of panes) pane.resize(cell, height);
    this.stage.style.gridTemplateColumns = `repeat(${columns}, ${cell}px)`;
    if (!same) this.replacePanes();
    this.render(); // at once: resizing has cleared the canvases
  }

  // Put the panes into the page; the keyboard stays with a pane of the same plane.
  replacePanes() {
    const focused = this.stage.querySelector("canvas:focus"), { plane } = focused?.dataset ?? {};
    this.stage.replaceChildren(this.notice, ...this.panes.map((pane) => pane.canvas));
    if (!focused) return;
    const next = this.panes.find((pane) => pane.canvas === focused) ?? this.panes.find((pane) => pane.plane === plane) ?? this.panes[0];
    next.canvas.focus({ preventScroll: true });
  }

  // Render in the next frame; `all`: more than crosshair, slice and placement have changed.
  requestRender(all = false) {
    if (all) {
      this.revision += 1;
      this.changed();
    }
    this.frame ??= requestAnimationFrame(() => this.render());
  }

  render() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.scene || !this.visible || this.closed) return;
    if (this.panes.some((pane) => pane.ratio !== screenRatio())) return this.layout(); // a change that was not noticed
    for (const pane of this.panes) pane.render();
    this.strip.render();
    this.readout.render();
    this.findings.render();
    this.surfaces.render();
    this.rendered += 1;
    this.root.dataset.voxel = this.voxel.join(",");
    this.root.dataset.drawn = String(this.rendered);
    this.root.dataset.active = this.active;
  }
}
