// A second prediction of the same case: its errors, and where only one of the two predictions is right. The layer, and
// the rows of these two panes, by their names.

const SECOND = "second prediction", SECOND_ERRORS = "second errors", CHANGES = "who is right";
const CHANGE_KINDS = [
  { name: "only the first is right", colour: "#5b9dff", help: "the class of the reference in the first prediction, another one in the second" },
  { name: "only the second is right", colour: "#ffb000", help: "the class of the reference in the second prediction, another one in the first" },
  { name: "both are wrong", colour: "#a3a8b3", help: "neither prediction has the class of the reference" },
];

// Layers that a row compares: the reference, then predictions; null for any other row.
function comparedLayers(row) {
  return { errors: ["truth", "prediction"], [SECOND_ERRORS]: ["truth", SECOND], [EPOCH_ERRORS]: ["truth", EPOCH], [CHANGES]: ["truth", "prediction", SECOND] }[row] ?? null;
}

// 1 + the index in CHANGE_KINDS; 0 where both are right, or a voxel is ignored: in the reference, or in a segmentation file.
function changeOf(truth, first, second) {
  if (isLeftOut(truth, first) || second === IGNORED || (first === truth && second === truth)) return 0;
  return first === truth ? 1 : second === truth ? 2 : 3;
}

class SecondPrediction {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "legend changes");
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Who is right");
  }

  get isThere() {
    return Boolean(this.viewer.hasErrors && this.viewer.scene.layers[SECOND]);
  }

  // Rows that can be shown with a second prediction.
  get rows() {
    return this.isThere ? [SECOND_ERRORS, CHANGES] : [];
  }

  // Pixels of the row CHANGES; hidden classes are left out where no layer has another one.
  paint(pixels, layers, shown) {
    const { settings } = this.viewer, opaque = settings.overlayHidden ? 0 : Math.min(1, 0.35 + settings.opacity);
    const colours = [0, ...CHANGE_KINDS.map((kind) => rgba(kind.colour, opaque))], [t, a, b] = layers;
    for (let p = 0; p < pixels.length; p++) {
      pixels[p] = shown[t[p]] || shown[a[p]] || shown[b[p]] ? colours[changeOf(t[p], a[p], b[p])] : 0;
    }
  }

  // Volumes of the kinds in ml, of all voxels. Those of an image that is streamed are counted by the server; null before they
  // are there.
  get volumes() {
    const { scene } = this.viewer;
    if (this.counted !== scene) {
      Object.assign(this, { counted: scene, found: null, note: "counting the volumes" });
      if (scene.streamed) this.fetch(scene);
      else this.keep(this.count(scene));
    }
    return this.found;
  }

  count({ layers }) {
    const [t, a, b] = comparedLayers(CHANGES).map((name) => layers[name]), counts = new Float64Array(4);
    for (let at = 0; at < t.length; at++) counts[changeOf(t[at], a[at], b[at])]++;
    return counts.slice(1);
  }

  keep(counts) {
    this.found = CHANGE_KINDS.map((_, n) => counts[n] * voxelMillilitres(this.viewer.grid));
  }

  async fetch(scene) {
    const { viewer } = this, { changes } = viewer.data, isWanted = () => viewer.scene === scene && !viewer.closed;
    try {
      await untilComputed(changes, () => {}, isWanted);
      if (!isWanted()) return;
      const counts = await (await ask(changes)).json();
      if (isWanted()) this.keep(counts);
    } catch (error) {
      if (isWanted()) this.note = error.message;
    }
    if (isWanted()) this.build();
  }

  // What is the case at a voxel, in words.
  describe([truth, first, second]) {
    if ([truth, first, second].includes(undefined)) return "…";
    if (isLeftOut(truth, first) || second === IGNORED) return "left out";
    return CHANGE_KINDS[changeOf(truth, first, second) - 1]?.name ?? "both are right";
  }

  build() {
    this.root.hidden = !this.viewer.rows.includes(CHANGES);
    if (this.root.hidden) return;
    const volumes = this.volumes;
    this.root.replaceChildren(...CHANGE_KINDS.map(({ name, colour, help }, n) => {
      const mark = element("span", "mark");
      mark.title = help;
      mark.append(swatch(colour), name, ...(volumes ? [text("span", millilitres(volumes[n]), "amount")] : []));
      return mark;
    }), ...(volumes ? [] : [text("span", this.note, "caption")]));
  }
}
