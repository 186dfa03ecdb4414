// The slice viewer: panes of one volume with a common crosshair, zoom and window. Once the volume is here, moving
// through it needs neither the server nor Python. The files before this one in the module draw and fetch.
// All text that comes from data goes through textContent or fillText.

const MOST_ROW = 430, MOST_SINGLE = 640, LEAST_ROW = 150, SPACE = 6;
const kept = new WeakMap();
const memory = new Map(); // what a reader chose, by the component's key: it stays when the page is left and opened again
const places = new Map(); // where the crosshair was, by image

export default function ({ data, key, parentElement, setStateValue }) {
  let viewer = kept.get(parentElement);
  if (!viewer) {
    viewer = new Viewer(parentElement, key ?? "viewer");
    kept.set(parentElement, viewer);
  }
  viewer.report = (voxel) => setStateValue("voxel", voxel);
  viewer.show(data);
  return () => { viewer.close(); kept.delete(parentElement); };
}

class Viewer extends Moving {
  constructor(parent, key) {
    super();
    this.host = parent.host ?? parent;
    this.root = parent.querySelector(".root");
    this.settings = memory.get(key) ?? {
      style: "fill", opacity: 0.5, line: 1.5, cross: true, radiological: true, hidden: new Set(), plane: "all",
      channel: 0, windows: new Map(), rows: null, asked: "", veiled: false,
    };
    memory.set(key, this.settings);
    this.toolbar = new Toolbar(this);
    this.legend = new Legend(this);
    this.strip = new Strip(this);
    this.stage = element("div", "stage");
    this.readout = element("div", "readout");
    this.notice = element("div", "notice");
    this.notice.setAttribute("role", "status");
    this.stage.append(this.notice);
    this.root.replaceChildren(this.toolbar.root, this.toolbar.help, this.legend.root, this.stage, this.readout, this.strip.root);
    this.panes = [];
    this.drawn = 0;
    this.revision = 0; // of all that panes show but crosshair, slice and place
    this.listen();
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.stage);
  }

  close() {
    this.observer.disconnect();
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.closed = true;
  }

  // ---- data -----------------------------------------------------------------------------------------------------

  show(data) {
    this.readTheme();
    const signature = JSON.stringify([data.image, data.layers, data.grid]);
    const asked = JSON.stringify([data.rows, data.planes]);
    const same = signature === this.signature;
    this.wanted = data;
    if (asked !== this.settings.asked) { // the page wants other rows than before: the reader's choice ends
      this.settings.asked = asked;
      this.settings.rows = null;
    }
    if (same && this.scene) {
      this.data = data;
      this.take();
    } else if (!same) {
      this.signature = signature;
      this.load(data, signature);
    }
  }

  async load(data, signature) {
    this.say(this.scene ? "" : "Loading the volume");
    this.root.classList.add("loading");
    this.root.dataset.ready = "";
    try {
      const scene = await fetchScene(data);
      if (signature !== this.signature || this.closed) return;
      const before = this.data;
      this.data = this.wanted;
      this.scene = scene;
      this.grid = data.grid;
      this.classes = data.classes;
      this.hasErrors = Boolean(scene.layers.truth && scene.layers.prediction);
      const place = before?.image === data.image ? this.voxel : places.get(data.image);
      this.voxel = [...(place ?? data.start ?? startOf(data.grid.shape, scene))].map((n, a) => clamp(n, 0, data.grid.shape[a] - 1));
      if (before?.image !== data.image) {
        this.head = headOf(data.grid.shape, scene);
        this.fit();
      }
      this.take();
      this.say("");
      this.root.dataset.ready = signature;
    } catch (error) {
      if (signature !== this.signature || this.closed) return;
      this.signature = "";
      this.say(error.message, () => this.show(this.wanted));
    } finally {
      if (signature === this.signature || !this.signature) this.root.classList.remove("loading");
    }
  }

  // The scene or what the page asks of it has changed: lay everything out again.
  take() {
    const s = this.settings, possible = (row) => row === "image" || (row === "errors" ? this.hasErrors : row in this.scene.layers);
    s.rows = (s.rows ?? this.data.rows).filter(possible);
    if (!s.rows.length) s.rows = ["image"];
    if (s.plane !== "all" && !this.data.planes.includes(s.plane)) s.plane = "all";
    if (s.channel >= this.data.channels.length) s.channel = 0;
    this.active ??= this.data.planes[0];
    if (!this.data.planes.includes(this.active)) this.active = this.data.planes[0];
    this.arrange();
    this.chooseChannel(s.channel);
    this.colour();
    this.toolbar.build();
    this.legend.build();
    this.layout();
  }

  say(words, again = null) {
    this.notice.replaceChildren(text("span", words), ...(again ? [button("Try again", again)] : []));
    this.notice.hidden = !words;
  }

  readTheme() {
    const style = getComputedStyle(this.host), read = (name, or) => style.getPropertyValue(name).trim() || or;
    this.font = read("--st-font", "sans-serif");
    this.style = { primary: read("--st-primary-color", "#7b6cf0"), border: read("--st-border-color", "#8884"), faint: read("--st-gray-color", "#8b909a") };
  }

  // ---- settings -------------------------------------------------------------------------------------------------

  get window() {
    const channel = this.data.channels[this.settings.channel];
    return this.settings.windows.get(this.windowKey()) ?? channel.window;
  }

  windowKey() {
    return `${this.data.image} ${this.settings.channel}`;
  }

  setWindow(window) {
    if (window) this.settings.windows.set(this.windowKey(), window);
    else this.settings.windows.delete(this.windowKey());
    this.chooseChannel(this.settings.channel);
  }

  chooseChannel(number) {
    const changed = this.settings.channel !== number;
    this.settings.channel = number;
    this.grey = windowTable(this.data.channels[number], this.window);
    if (changed) this.toolbar.build();
    this.toolbar.showWindow(this.window);
    this.ask(true);
  }

  set(name, value) {
    this.settings[name] = value;
    this.colour();
  }

  mirror(on) {
    this.settings.radiological = on;
    this.arrange();
    this.ask(true);
  }

  // Tables of colours, after opacity, style or the shown classes have changed.
  colour() {
    const s = this.settings, alpha = s.veiled ? 0 : s.style === "both" ? s.opacity * 0.6 : s.opacity;
    this.shown = s.veiled ? new Uint8Array(256) : shownTable(this.classes, s.hidden);
    this.colours = new Uint32Array(256);
    this.classes.forEach((c, n) => { this.colours[n + 1] = rgba(c.colour, alpha); });
    this.errorColours = new Uint32Array(256);
    ERRORS.forEach((e, n) => { this.errorColours[n + 1] = rgba(e.colour, s.veiled ? 0 : Math.min(1, 0.35 + s.opacity)); });
    this.errorColours[AGREED] = rgba(AGREED_COLOUR, s.veiled ? 0 : s.opacity * 0.3);
    this.strip.forget();
    this.toolbar.refresh();
    this.ask(true);
  }

  toggleRow(row) {
    const order = ["image", ...Object.keys(this.scene.layers), "errors"], now = this.settings.rows;
    const next = now.includes(row) ? now.filter((r) => r !== row) : [...now, row];
    if (!next.length) return;
    this.settings.rows = next.sort((a, b) => order.indexOf(a) - order.indexOf(b));
    this.legend.build();
    this.layout();
  }

  titleOf(row) {
    const channel = this.data.channels[this.settings.channel].name;
    return row === "image" ? channel : row;
  }

  // ---- layout ---------------------------------------------------------------------------------------------------

  arrange() {
    this.views = Object.fromEntries(this.data.planes.map((p) => [p, viewOf(p, this.grid, this.settings.radiological)]));
  }

  // As many panes as rows and planes ask for, all at one scale.
  layout() {
    if (!this.scene || !this.settings.rows) return; // nothing yet, or other rows while a new scene is on its way
    const { rows, plane } = this.settings, planes = plane === "all" ? this.data.planes : [plane];
    const wanted = [];
    for (const row of rows) for (const p of planes) {
      wanted.push(this.panes.find((pane) => pane.plane === p && pane.row === row) ?? new Pane(this, p, row));
    }
    if (!planes.includes(this.active)) this.active = planes[0];
    const same = wanted.length === this.panes.length && wanted.every((pane, n) => pane === this.panes[n]);
    this.panes = wanted;
    const width = this.stage.clientWidth;
    if (width < 40) return;
    const columns = planes.length === 1 ? Math.min(rows.length, width < 560 ? 1 : 4) : planes.length, lines = Math.ceil(wanted.length / columns);
    const extent = (axis) => this.head[axis][1] - this.head[axis][0] + 1;
    const sizes = planes.map((p) => this.views[p]).map((v) => [extent(v.across) * v.spacing[0], extent(v.up) * v.spacing[1]]);
    const cell = Math.floor((width - SPACE * (columns - 1)) / columns);
    const wide = Math.max(...sizes.map((s) => s[0])), high = Math.max(...sizes.map((s) => s[1]));
    const most = this.data.height ?? (lines === 1 ? MOST_SINGLE : MOST_ROW);
    const height = Math.round(clamp((cell * high) / wide, Math.min(LEAST_ROW, most), most));
    this.scale = Math.min(cell / wide, height / high);
    for (const pane of wanted) pane.resize(cell, height);
    this.stage.style.gridTemplateColumns = `repeat(${columns}, ${cell}px)`;
    if (!same) this.stage.replaceChildren(this.notice, ...wanted.map((pane) => pane.canvas));
    this.draw(); // at once: a canvas is empty after its size has changed
  }

  // Draw in the next frame; `anew`: more than the crosshair, the slice or the place has changed.
  ask(anew = false) {
    if (anew) this.revision += 1;
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.scene || !this.grey || !this.shown || this.closed) return;
    for (const pane of this.panes) pane.draw();
    this.strip.draw();
    this.describe();
    this.drawn += 1;
    this.root.dataset.voxel = this.voxel.join(",");
    this.root.dataset.drawn = String(this.drawn);
    this.root.dataset.active = this.active;
  }

  // Where the crosshair is and what is there.
  describe() {
    const [i, j, k] = this.voxel, [ni, nj] = this.grid.shape, at = i + ni * (j + nj * k), mm = millimetres(this.grid, this.voxel);
    const parts = [["voxel", this.voxel.map((n) => n + 1).join(", ")]];
    parts.push(["mm", mm ? mm.map((n) => n.toFixed(1)).join(", ") : "orientation unknown"]);
    this.data.channels.forEach((c, n) => {
      const value = c.low + (this.scene.channels[n][at] / 65535) * (c.high - c.low);
      parts.push([c.name, short(value)]);
    });
    for (const [name, layer] of Object.entries(this.scene.layers)) {
      parts.push([name, layer[at] ? (this.classes[layer[at] - 1]?.name ?? "?") : "background"]);
    }
    this.readout.replaceChildren(...parts.map(([name, value]) => {
      const span = element("span");
      span.append(text("em", name), value);
      return span;
    }));
  }
}
