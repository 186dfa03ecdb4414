// Surfaces of reference and prediction in 3D beside the panes. They are made and fetched when they are first shown, turn
// without a request, and share the crosshair: it moves a plane here, and a click on a surface moves it.

const SURFACE_COLOURINGS = [["class", "class"], ["distance", "distance"]], SURFACE_SIDES = [["truth", "reference"], ["prediction", "prediction"]];
const REGION_WORD = "of "; // before the name of a region in an address
const REFERENCE_ALPHA = 0.3, CROSS_SHARE = 0.05;
const BESIDE_WIDTH = 620; // of the viewer from which surfaces stand beside one column of panes, pixels

class Surfaces extends SurfaceInteraction {
  constructor(viewer) {
    super();
    this.viewer = viewer;
    this.root = element("div", "surfaces");
    this.root.hidden = true;
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Surfaces");
    this.bar = element("div", "bar");
    this.fillBar = oneTabStop(this.bar, "Surfaces");
    this.space = element("div", "space");
    this.canvas = element("canvas", "surface");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.edges = ["left", "right", "top", "bottom"].map((side) => { const letter = text("span", "", `edge ${side}`); letter.setAttribute("aria-hidden", "true"); return letter; });
    this.waiting = element("div", "notice");
    this.waiting.setAttribute("role", "status");
    this.space.append(this.canvas, ...this.edges, this.waiting);
    this.status = text("div", "", "caption");
    this.status.setAttribute("role", "status");
    this.root.append(this.bar, this.space, this.status);
    this.camera = new SurfaceCamera();
    this.sliceCanvas = element("canvas");
    Object.assign(this, { url: "", data: null, state: "none" });
    this.observer = new ResizeObserver(() => { this.drawn = ""; this.render(); });
    this.observer.observe(this.space);
    this.listen();
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.renderer?.close();
    this.closed = true;
  }

  get settings() {
    const { settings } = this.viewer;
    settings.surfaces ??= { on: false, sides: ["truth", "prediction"], colouring: "class", range: DISTANCE_RANGE_MM, cut: false, slice: false, structure: "classes" };
    return settings.surfaces;
  }

  get offered() {
    return Boolean(this.viewer.data?.surfaces);
  }

  get isOn() {
    return this.offered && this.settings.on;
  }

  toggle() {
    if (!this.offered) return;
    this.settings.on = !this.settings.on;
    this.viewer.toolbar.refresh();
    this.show();
    this.viewer.layout();
  }

  // Words of the look of the viewer, and from them.
  get look() {
    const { on, colouring, cut, slice, sides, range, structure } = this.settings;
    if (!on) return [];
    const only = sides.length === 1 ? SURFACE_SIDES.filter(([side]) => sides.includes(side)).map(([, name]) => name) : [];
    const of = structure === "classes" ? [] : [REGION_WORD + structure], reach = range === DISTANCE_RANGE_MM ? [] : [`${range}mm`];
    return ["on", ...(colouring === "distance" ? ["distance"] : []), ...(cut ? ["cut"] : []), ...(slice ? ["image"] : []), ...only, ...reach, ...of];
  }

  set look(given) {
    const only = SURFACE_SIDES.filter(([, name]) => given.includes(name)).map(([side]) => side);
    if (given[0] !== "on") return;
    Object.assign(this.settings, { on: true, colouring: given.includes("distance") ? "distance" : "class", cut: given.includes("cut"), slice: given.includes("image") });
    if (only.length) this.settings.sides = only;
    this.settings.range = DISTANCE_RANGES_MM.find((mm) => given.includes(`${mm}mm`)) ?? this.settings.range;
    const region = given.find((word) => word.startsWith(REGION_WORD));
    if (region) this.settings.structure = region.slice(REGION_WORD.length);
  }

  // Beside the panes where there is room for both, else below them.
  place(columns) {
    const { place, root } = this.viewer, share = columns === 1 ? BESIDE_WIDTH : BESIDE_WIDTH * 1.5;
    place.classList.toggle("beside", this.isOn && root.clientWidth >= share);
  }

  // ---- data -----------------------------------------------------------------------------------------------------

  // Show the surfaces of the scene, if they are on.
  show() {
    this.root.hidden = !this.isOn;
    if (!this.isOn) return;
    const { url } = this.viewer.data.surfaces;
    if (url === this.url) return this.render();
    Object.assign(this, { url, data: null });
    this.renderer?.clear();
    this.fillBar(this.bar);
    this.status.textContent = "";
    this.loading = this.load(url);
  }

  async load(url) {
    const asking = (this.asking = {}), current = () => this.asking === asking && !this.closed, { picture } = this.viewer.data.surfaces;
    this.announce("running", "Making the surfaces");
    try {
      await new Promise((resolve) => setTimeout(resolve, FINDINGS_PAUSE_MS)); // not of a case that is passed by
      await this.stopping;
      if (!current()) return;
      await untilComputed(url, (share) => {
        if (!current() || !this.isOn) throw new Error("");
        this.announce("running", share ? `Making the surfaces: ${Math.round(100 * share)} %` : "Making the surfaces");
      }, current);
      if (!current()) return;
      this.renderer ??= new SurfaceRenderer(this.canvas);
      if (!this.renderer.available) return await this.showPicture(picture, current);
      this.announce("running", "Fetching the surfaces");
      const buffer = await (await ask(url)).arrayBuffer();
      if (!current()) return;
      this.accept(decodeSurfaces(buffer), buffer.byteLength);
    } catch (error) {
      if (!current()) return;
      if (!error.message) this.url = ""; // switched off meanwhile: asked for again when it is on
      else this.announce("failed", error.message);
    }
  }

  accept(data, bytes) {
    this.data = data;
    this.bytes = bytes;
    if (!data.surfaces.length) return this.announce("empty", "Neither the reference nor the prediction has a voxel of any class.");
    const { grid } = this.viewer, ends = [0, 1];
    const corners = ends.flatMap((i) => ends.flatMap((j) => ends.map((k) => surfaceToMm(grid, [i, j, k].map((n, axis) => n * grid.shape[axis] - 0.5)))));
    this.camera.frame(data.surfaces, corners);
    if (this.settings.cut || this.settings.slice) this.showSlice();
    this.announce("done", "");
    this.build();
    this.render();
  }

  // Without WebGL: the picture that was made with the surfaces.
  async showPicture(url, current) {
    await untilComputed(url, () => {}, current);
    if (!current()) return;
    const content = await (await ask(url)).arrayBuffer();
    if (!current()) return;
    const picture = element("img");
    picture.alt = `Surfaces of ${this.viewer.classes.map((c) => c.name).join(", ")} from the front, from the left and from above: reference, prediction, and signed distances between them`;
    picture.src = URL.createObjectURL(new Blob([content], { type: "image/png" }));
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
    this.announce("picture", "");
    this.waiting.replaceChildren(picture);
    this.waiting.hidden = false;
    this.status.textContent = "A picture that cannot be turned: this browser has no WebGL 2, or it is switched off. It shows all classes.";
  }

  // What is shown instead of surfaces, by state: running, stopped, failed, empty; nothing when they are there.
  announce(state, message) {
    this.state = this.root.dataset.state = state;
    const again = () => { this.url = ""; this.show(); }, actions = { running: ["Stop", () => this.stop()], stopped: ["Make the surfaces", again], failed: ["Try again", again] };
    const label = this.waiting.querySelector("span"), hadFocus = this.waiting.matches(":focus-within");
    if (label && state === "running" && this.waiting.querySelector("button")?.textContent === "Stop") label.textContent = message; // the button keeps the focus
    else this.waiting.replaceChildren(...(message ? [text("span", message)] : []), ...(actions[state] ? [button(...actions[state])] : []));
    this.waiting.hidden = !message;
    if (hadFocus) this.waiting.querySelector("button")?.focus();
    this.canvas.hidden = state !== "done";
    for (const edge of this.edges) edge.hidden = state !== "done";
  }

  // A request that is on its way would begin anew after the end: it is waited for.
  stop() {
    const { url, loading } = this;
    this.asking = null; // nothing asks again
    this.announce("stopped", "Stopped.");
    this.stopping = loading.then(() => fetch(url, { method: "DELETE", credentials: "same-origin" })).catch(() => {});
  }

  // ---- what is shown --------------------------------------------------------------------------------------------

  // The regions that have surfaces of their own.
  get regions() {
    return this.data.structures.filter((one) => one.is_region);
  }

  // Whether there is anything to compare.
  get isCompared() {
    return this.data.surfaces.some(({ distances }) => distances);
  }

  get visible() {
    const { structures, surfaces } = this.data, s = this.settings, shown = this.viewer.shownClasses;
    const isOne = this.regions.some(({ name }) => name === s.structure);
    return surfaces.filter(({ structure, side }) => {
      const one = structures[structure];
      return s.sides.includes(side) && (isOne ? one.name === s.structure : !one.is_region && one.classes.some((index) => shown[index]));
    });
  }

  layers() {
    const s = this.settings, byDistance = s.colouring === "distance" && this.isCompared, both = s.sides.length > 1;
    const { colours } = this, isSolid = ({ side, structure }) => !both || side === "prediction" || !this.data.surfaces.some((other) => other.structure === structure && other.side === "prediction");
    return this.visible.map((surface) => {
      const solid = isSolid(surface);
      return { surface, colour: colours[surface.structure], alpha: solid ? 1 : byDistance ? 0.12 : REFERENCE_ALPHA, range: byDistance && solid ? s.range : 0 };
    });
  }

  // Colours of the structures: those of the legend for classes.
  get colours() {
    const { classes } = this.viewer;
    return this.data.structures.map((one) => classes[one.classes[0] - 1]?.colour ?? one.colour);
  }

  // The rectangle of the slice at the crosshair, and what it cuts away: the half that is nearer to the viewer.
  cutAt(rectangle) {
    if (!this.settings.cut) return null;
    const sign = dot(rectangle.normal, this.camera.axes.toward) < 0 ? -1 : 1, normal = rectangle.normal.map((n) => sign * n);
    return { normal, offset: dot(normal, rectangle.corners[0]) };
  }

  // The image in the slice, a pixel per voxel, and a text that changes with it; null while its voxels are fetched.
  slicePicture() {
    const v = this.viewer, plane = PLANES[v.active], { shape } = v.grid, slice = v.voxel[plane.axis];
    const key = [this.url, v.active, slice, v.settings.channel, v.window].join(" ");
    if (key !== this.slicePictured) {
      const view = { ...plane, mirrored: false, width: shape[plane.across], height: shape[plane.up], slices: shape[plane.axis] };
      const image = v.scene.image(v.settings.channel, view, slice);
      if (!image) return null;
      this.slicePictured = key;
      const { offset, dx, dy, width, height } = image.layout, layout = { offset: offset + (height - 1) * dy, dx, dy: -dy, width, height }; // the lowest row first
      fillPixels(this.sliceCanvas, layout, (pixels) => paintImage(pixels, image.values, layout, v.grey));
    }
    return { canvas: this.sliceCanvas, key };
  }

  // Draw where anything has changed.
  render() {
    if (!this.isOn || this.state !== "done" || !this.viewer.scene || !this.viewer.visible || this.closed) return;
    if (!this.renderer.available) return;
    const v = this.viewer, width = this.space.clientWidth, height = this.space.clientHeight, ratio = Math.min(screenRatio(), 2);
    if (width < 20 || height < 20) return;
    const { camera } = this, layers = this.layers(), picture = this.settings.slice ? this.slicePicture() : null;
    const signature = JSON.stringify([this.url, width, height, ratio, camera, v.voxel, v.active, v.window, v.settings.channel, v.settings.crosshair, this.settings, picture?.key, layers.map(({ surface, colour, alpha }) => [surface.structure, surface.side, colour, alpha])]);
    if (signature === this.drawn) return;
    this.drawn = signature;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const rectangle = sliceRectangle(v.grid, v.active, v.voxel), cut = this.cutAt(rectangle), at = surfaceToMm(v.grid, v.voxel);
    const reach = CROSS_SHARE * camera.radius / camera.zoom, { right, up } = camera.axes;
    const line = (axis) => [-1, 1].map((sign) => at.map((n, i) => n + sign * reach * axis[i]));
    this.renderer.draw({
      camera, width, height, layers, cut, stepMm: this.data.step_mm,
      slice: picture && { corners: rectangle.corners, ...picture },
      outline: v.settings.crosshair || cut || this.settings.slice ? rectangle.corners.flatMap((corner, n) => [corner, rectangle.corners[(n + 1) % 4]]) : [],
      cross: v.settings.crosshair ? [...line(right), ...line(up)] : [],
    });
    camera.letters(v.grid.affine !== null).forEach((letters, n) => { this.edges[n].textContent = letters; });
    this.describe(layers);
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn ?? 0) + 1);
    this.root.dataset.view = `${camera.yaw.toFixed(3)},${camera.pitch.toFixed(3)},${camera.zoom.toFixed(3)}`;
  }

  describe(layers) {
    const s = this.settings, { view } = this.camera, names = [...new Set(layers.map(({ surface }) => this.data.structures[surface.structure].name))];
    const sides = SURFACE_SIDES.filter(([side]) => layers.some(({ surface }) => surface.side === side)).map(([, name]) => name).join(" and ");
    const words = names.length ? `Surfaces of ${names.join(", ")}: ${sides}` : "No surface: all are hidden";
    const from = !view ? "turned" : view === "above" || view === "below" ? `seen from ${view}` : `seen from the ${view}`;
    const cut = s.cut ? `, cut at ${this.viewer.active} slice ${this.viewer.voxel[PLANES[this.viewer.active].axis] + 1}` : "";
    this.canvas.setAttribute("aria-label", `${words}, ${from}${cut}. ${SURFACE_KEYS}`);
  }

  // ---- controls -------------------------------------------------------------------------------------------------

  build() {
    const s = this.settings, parts = [], refreshed = (change) => (value) => { change(value); this.applied(); };
    if (this.data.has_truth) {
      parts.push(switchGroup("Surfaces of", SURFACE_SIDES, () => s.sides, refreshed((side) => {
        const sides = s.sides.includes(side) ? s.sides.filter((one) => one !== side) : [...s.sides, side];
        if (sides.length) s.sides = sides;
      }), true));
    }
    if (this.isCompared) parts.push(switchGroup("Colour of surfaces", SURFACE_COLOURINGS, () => s.colouring, refreshed((value) => { s.colouring = value; })));
    if (this.regions.length) parts.push(switchGroup("Classes or a region", [["classes", "classes"], ...this.regions.map(({ name }) => [name, name])], () => (this.regions.some(({ name }) => name === s.structure) ? s.structure : "classes"), refreshed((value) => { s.structure = value; })));
    parts.push(switchGroup("At the slice", [["cut", "cut"], ["slice", "image"]], () => ["cut", "slice"].filter((name) => s[name]), (name) => this.flip(name), true));
    for (const part of parts) part.refresh();
    const views = this.select("View", [["", "view"], ...SURFACE_VIEWS.map(([name]) => [name, name])], this.camera.view, (name) => { if (name) this.camera.look(name); this.render(); });
    if (s.colouring === "distance" && this.isCompared) parts.push(this.distanceBar());
    this.fillBar(this.bar, ...parts, views);
    this.tell();
  }

  select(title, choices, value, change) {
    const made = element("select");
    made.setAttribute("aria-label", title);
    made.append(...choices.map(([choice, name]) => { const option = text("option", name); option.value = choice; return option; }));
    made.value = value;
    made.addEventListener("change", () => change(made.value));
    made.addEventListener("keydown", (event) => event.stopPropagation()); // letters are no shortcuts here
    return made;
  }

  distanceBar() {
    const s = this.settings, bar = element("span", "heat"), scale = element("i", "scale");
    scale.style.background = `linear-gradient(90deg, ${DISTANCE_COLOURS.join(", ")})`;
    const range = this.select("Range of distances", DISTANCE_RANGES_MM.map((mm) => [String(mm), `± ${mm} mm`]), String(s.range), (mm) => { s.range = Number(mm); this.applied(); this.bar.querySelector("select")?.focus(); });
    const picture = element("span", "heat");
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", `Colours of distances: blue for ${s.range} mm inside the other surface, red for ${s.range} mm outside, grey where nothing can be compared`);
    picture.append(text("span", "inside"), scale, text("span", "outside"));
    bar.append(picture, range);
    return bar;
  }

  // Number and size of the surfaces, and what is special about them.
  tell(more = "") {
    const { surfaces, structures } = this.data, faces = surfaces.reduce((sum, one) => sum + one.faces, 0), name = ({ structure }) => structures[structure].name;
    const missing = structures.filter((one, n) => !one.is_region && this.data.has_truth && surfaces.filter((s) => s.structure === n).length === 1);
    const words = [
      more || `${count(surfaces.length, "surface")}, ${faces.toLocaleString("en")} triangles, ${(this.bytes / 1e6).toFixed(1)} MB`,
      ...missing.map((one) => `${one.name}: only in the ${surfaces.find((s) => name(s) === one.name).side === "truth" ? "reference" : "prediction"}, no distances`),
      ...surfaces.filter(({ coarsening }) => coarsening > 1).map((one) => `${name(one)}: from blocks of ${one.coarsening}³ voxels`),
      ...surfaces.filter((one) => one.left_out).map((one) => `${name(one)}: without ${count(one.left_out, "smallest part")}`),
      ...surfaces.filter((one) => one.volume_differs).map((one) => `${name(one)}: encloses ${one.mesh_ml.toPrecision(3)} ml, its voxels have ${one.volume_ml.toPrecision(3)} ml: its corners are cut`),
    ];
    this.status.textContent = [...new Set(words)].join(" · ");
  }

  // Turn where the slice would be a line.
  showSlice() {
    const { grid, active, voxel } = this.viewer;
    this.camera.turnFrom(sliceRectangle(grid, active, voxel).normal);
  }

  // Cut at the slice or not; show the image in it or not.
  flip(name) {
    const { settings } = this;
    settings[name] = !settings[name];
    if (settings[name]) this.showSlice();
    this.applied();
  }

  // After a change of the settings.
  applied() {
    this.build();
    this.render();
    this.viewer.changed();
  }
}
