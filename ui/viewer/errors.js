// The errors layer: voxels whose class differs between truth and prediction, by kind or by class. A kind, a class, or
// all but one pair of classes can be hidden. ERROR_KINDS are those of core.evaluation.error_map.

const CORRECT_COLOUR = "#ffffff", NEUTRAL_COLOUR = "#c3c7cf"; // of correct voxels, and of the background where errors have the colours of classes
const ERROR_COLOURINGS = [["kind", "kind"], ["truth", "reference"], ["prediction", "prediction"]];
const PAIRS = 65536; // of class indices: 256 * truth + prediction

const pairOf = (truth, prediction) => (truth << 8) | prediction;

// Whether one of the two has the ignore label, as segmentation files may have, too.
function isLeftOut(truth, prediction) {
  return truth === IGNORED || prediction === IGNORED;
}

// Index in ERROR_KINDS of two different classes.
function errorKind(truth, prediction) {
  return !truth ? 0 : !prediction ? 1 : 2;
}

// Pixels of the errors in a slice.
function paintErrors(pixels, truth, prediction, layout, colours) {
  let p = 0;
  for (let y = 0; y < layout.height; y++) {
    let at = layout.offset + y * layout.dy;
    for (let x = 0; x < layout.width; x++, at += layout.dx) pixels[p++] = colours[(truth[at] << 8) | prediction[at]];
  }
}

// Number of voxels of each pair of classes.
function countPairs(truth, prediction) {
  const counts = new Uint32Array(PAIRS);
  for (let at = 0; at < truth.length; at++) counts[(truth[at] << 8) | prediction[at]]++;
  return counts;
}

// Pairs of different classes that occur: [truth, prediction, voxels].
function confusedPairs(layers, classes) {
  const counts = countPairs(layers.truth, layers.prediction), all = [];
  for (let t = 0; t <= classes; t++) for (let p = 0; p <= classes; p++) {
    const voxels = counts[pairOf(t, p)];
    if (t !== p && voxels) all.push([t, p, voxels]);
  }
  return all;
}

function voxelMillilitres(grid) {
  const axes = grid.affine?.slice(0, 3).map((row) => row.slice(0, 3));
  if (!axes) return (grid.spacing_mm[0] * grid.spacing_mm[1] * grid.spacing_mm[2]) / 1000;
  const [[a, b, c], [d, e, f], [g, h, i]] = axes;
  return Math.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) / 1000;
}

// A volume as text: three significant digits, whole millilitres from a hundred on.
function millilitres(volume) {
  if (!volume) return "0 ml";
  return `${volume >= 100 ? Math.round(volume).toLocaleString("en") : Number(volume.toPrecision(volume >= 1 ? 3 : 2))} ml`;
}

// Which errors a viewer shows, in which colours, and how much there is of each.
class ErrorLayer {
  constructor(viewer) {
    this.viewer = viewer;
  }

  // Whether an error of these classes is shown; `kinds` and `pair`: also those that are hidden by these choices.
  shows(truth, prediction, { kinds = false, pair = false } = {}) {
    const { settings, shownClasses } = this.viewer;
    if (truth === prediction || isLeftOut(truth, prediction) || !(shownClasses[truth] || shownClasses[prediction])) return false;
    if (!pair && settings.onlyPair && settings.onlyPair !== this.pairName(truth, prediction)) return false;
    return kinds || !settings.hiddenErrors.has(ERROR_KINDS[errorKind(truth, prediction)].name);
  }

  // Colours of all pairs of classes, from the settings.
  update() {
    const { classes, settings, shownClasses } = this.viewer, s = settings;
    if (s.onlyPair && !this.pairNames.has(s.onlyPair)) s.onlyPair = null; // of the classes of another model
    const opaque = s.overlayHidden ? 0 : Math.min(1, 0.35 + s.opacity);
    const correct = rgba(CORRECT_COLOUR, s.overlayHidden || s.onlyPair ? 0 : s.opacity * 0.3), kinds = ERROR_KINDS.map((kind) => rgba(kind.colour, opaque));
    const byClass = [NEUTRAL_COLOUR, ...classes.map((c) => c.colour)].map((colour) => rgba(colour, opaque));
    this.colours = new Uint32Array(PAIRS);
    for (let t = 0; t < byClass.length; t++) for (let p = 0; p < byClass.length; p++) {
      if (t === p) this.colours[pairOf(t, p)] = shownClasses[t] ? correct : 0;
      else if (this.shows(t, p)) this.colours[pairOf(t, p)] = s.errorColouring === "kind" ? kinds[errorKind(t, p)] : byClass[s.errorColouring === "truth" ? t : p];
    }
  }

  // Pairs of classes with their volume, the largest first. They are counted in all voxels: here, or, for an image that is
  // streamed, with the findings; none before these are there.
  get pairs() {
    const { scene, grid, classes, findings } = this.viewer, source = scene.streamed ? findings.data : scene;
    if (!source) return [];
    if (this.counted !== source) {
      const found = scene.streamed ? source.confused : confusedPairs(scene.layers, classes.length), one = voxelMillilitres(grid);
      this.counted = source;
      this.found = found.map(([truth, prediction, voxels]) => ({ truth, prediction, volume: voxels * one })).sort((a, b) => b.volume - a.volume);
    }
    return this.found;
  }

  // What was taken for what, in words.
  pairName(truth, prediction) {
    const { viewer } = this, kind = errorKind(truth, prediction);
    if (kind < 2) return `${ERROR_KINDS[kind].name}, ${viewer.nameOf(truth || prediction)}`;
    return `${viewer.nameOf(truth)} taken for ${viewer.nameOf(prediction)}`;
  }

  // Names of all pairs of different classes.
  get pairNames() {
    const indices = [0, ...this.viewer.classes.map((_, n) => n + 1)];
    return new Set(indices.flatMap((t) => indices.filter((p) => p !== t).map((p) => this.pairName(t, p))));
  }

  // What is wrong at a voxel, in words.
  describe(truth, prediction) {
    if (truth === undefined || prediction === undefined) return "…";
    if (isLeftOut(truth, prediction)) return "left out";
    return truth === prediction ? "none" : this.pairName(truth, prediction);
  }

  // What of the errors is hidden, as lines of a pane's title.
  get hiddenLines() {
    const { hiddenErrors, onlyPair } = this.viewer.settings;
    if (onlyPair) return [`only ${onlyPair}`];
    return hiddenErrors.size ? [`${[...hiddenErrors].join(", ")} hidden`] : [];
  }

  // Names and colours of the kinds that are shown.
  get marks() {
    const { settings } = this.viewer;
    return settings.errorColouring === "kind" ? ERROR_KINDS.filter(({ name }) => !settings.hiddenErrors.has(name)) : [{ name: "background", colour: NEUTRAL_COLOUR }];
  }
}

// The legend of the errors layer: kinds, which class was taken for which, and what the colours mean.
class ErrorLegend {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "errors-bar");
    this.kinds = element("span", "legend");
    this.kinds.setAttribute("role", "group");
    this.kinds.setAttribute("aria-label", "Errors");
    this.list = element("div", "list");
    this.list.setAttribute("role", "group");
    this.list.setAttribute("aria-label", "Which class was taken for which");
    this.colouring = element("span", "labelled");
    this.only = element("span", "labelled");
    this.menu = new Menu("Classes of errors", this.colouring, this.only, this.list);
    this.pairs = this.menu.root;
    this.pairs.classList.add("pairs");
    this.root.append(this.kinds, this.pairs);
  }

  build() {
    const v = this.viewer;
    this.root.hidden = !["errors", SECOND_ERRORS, EPOCH_ERRORS].some((row) => v.rows.includes(row));
    if (this.root.hidden) return;
    const buttons = () => [...this.menu.panel.querySelectorAll("button")], focused = buttons().findIndex((b) => b.matches(":focus"));
    v.fill(this.kinds, ...ERROR_KINDS.map((kind) => this.chip(kind)));
    this.pairs.hidden = !v.errors.pairs.length;
    const group = switchGroup("Errors in the colours of", ERROR_COLOURINGS, () => v.settings.errorColouring, (by) => { v.set("errorColouring", by); this.build(); });
    group.refresh();
    v.fill(this.colouring, text("span", "Colours by"), group);
    v.fill(this.only, text("span", "Show only"), this.onlyKinds());
    this.list.replaceChildren(...this.pairRows());
    if (focused >= 0) buttons()[focused]?.focus();
  }

  // Whether volumes are shown: they are those of the first prediction.
  get hasVolumes() {
    return this.viewer.errors.pairs.length > 0 && ![SECOND_ERRORS, EPOCH_ERRORS].some((row) => this.viewer.rows.includes(row));
  }

  // A kind of errors: a click hides or shows it, Alt and a click or Enter shows only this kind.
  chip({ name, colour, help }) {
    const v = this.viewer, b = chip(name, ERROR_KINDS.map((kind) => kind.name), v.settings.hiddenErrors, () => this.changed());
    if (v.settings.errorColouring === "kind") b.prepend(swatch(colour));
    if (this.hasVolumes) b.append(text("span", this.volumeOf(name), "amount"));
    b.title = `${help}; ${CHIP_HELP}`;
    return b;
  }

  // Shows one kind of errors, or all again.
  onlyKinds() {
    const { hiddenErrors } = this.viewer.settings, names = ERROR_KINDS.map(({ name }) => name);
    const shown = () => names.find((name) => isOnlyShown(hiddenErrors, names, name));
    const group = switchGroup("Show only errors of the kind", names.map((name) => [name, name]), shown, (name) => { showOnly(hiddenErrors, names, name); this.changed(); });
    group.refresh();
    return group;
  }

  // Volume of a kind, of the classes that are shown.
  volumeOf(name) {
    const { errors } = this.viewer, shown = errors.pairs.filter(({ truth, prediction }) => errors.shows(truth, prediction, { kinds: true, pair: true }));
    return millilitres(shown.reduce((sum, { truth, prediction, volume }) => (ERROR_KINDS[errorKind(truth, prediction)].name === name ? sum + volume : sum), 0));
  }

  pairRows() {
    const v = this.viewer, { settings, errors } = v, rows = [["all errors", null, ""]];
    for (const { truth, prediction, volume } of errors.pairs) {
      if (errors.shows(truth, prediction, { kinds: true, pair: true })) rows.push([errors.pairName(truth, prediction), errors.pairName(truth, prediction), millilitres(volume)]);
    }
    return rows.map(([title, pair, volume]) => {
      const b = button(title, () => { settings.onlyPair = settings.onlyPair === pair ? null : pair; this.changed(); });
      if (this.hasVolumes) b.append(text("span", volume, "amount"));
      b.setAttribute("aria-pressed", String((settings.onlyPair ?? null) === pair));
      return b;
    });
  }

  changed() {
    this.viewer.updateColours();
    this.viewer.legend.build();
  }
}
