// Two segmentations in one pane, reference and prediction or two predictions: one after the other (blink), beside a line that is dragged (swipe), or in the
// squares of a checkerboard. `COMPARE` is the row of that pane.

const COMPARE = "compare", COMPARE_MODES = [["blink", "blink"], ["swipe", "swipe"], ["checkerboard", "checkerboard"]];
const SQUARE_PX = 48, SWIPE_GRIP_PX = 10, SWIPE_GRIP_TOUCH_PX = 24, SWIPE_STEP = 0.04, SWIPE_COLOUR = "rgba(255,255,255,0.9)";

// Where a pane shows each of the two layers: [[name, rectangles]], in CSS pixels.
function comparedParts({ compare, swipe, blinked }, [first, second], width, height) {
  if (compare === "blink") return [[blinked ? second : first, [[0, 0, width, height]]]];
  if (compare === "swipe") {
    const x = Math.round(swipe * width);
    return [[first, [[0, 0, x, height]]], [second, [[x, 0, width - x, height]]]];
  }
  const squares = [[], []];
  for (let row = 0; row * SQUARE_PX < height; row++) for (let column = 0; column * SQUARE_PX < width; column++) {
    squares[(row + column) % 2].push([column * SQUARE_PX, row * SQUARE_PX, SQUARE_PX, SQUARE_PX]);
  }
  return [[first, squares[0]], [second, squares[1]]];
}

// Pairs of layers that can be compared, by their names in an address.
const COMPARED_PAIRS = { reference: ["truth", "prediction"], second: ["prediction", SECOND] };

class Compare {
  constructor(viewer) {
    this.viewer = viewer;
  }

  get pair() {
    return COMPARED_PAIRS[this.viewer.second.isThere ? this.viewer.settings.comparedPair ?? "reference" : "reference"];
  }

  // What is shown where, in words.
  get title() {
    const { compare, blinked } = this.viewer.settings, [first, second] = this.pair.map((name) => this.viewer.titleOf(name));
    if (compare === "blink") return blinked ? second : first;
    return compare === "swipe" ? `${first} left, ${second} right` : `${first} and ${second} in turn`;
  }

  // The overlays of a pane of the row `COMPARE`.
  render(pane, context, at, layout, width, height) {
    const { settings } = this.viewer;
    let waiting = false;
    for (const [name, rectangles] of comparedParts(settings, this.pair, pane.width, pane.height)) {
      context.save();
      context.beginPath();
      for (const rectangle of rectangles) context.rect(...rectangle);
      context.clip();
      pane.renderOverlay(context, at, layout, width, height, name);
      waiting ||= pane.waiting;
      context.restore();
    }
    pane.waiting = waiting;
    if (settings.compare !== "swipe") return;
    context.fillStyle = SWIPE_COLOUR;
    context.fillRect(Math.round(settings.swipe * pane.width) - 1, 0, 2, pane.height);
  }

  get isShown() {
    return this.viewer.rows.includes(COMPARE);
  }

  // The other one of the two; the first time, only the pane that blinks.
  blink() {
    const { viewer } = this, { settings } = viewer;
    if (!viewer.hasErrors) return;
    if (!this.isShown) return viewer.showOnly(COMPARE);
    if (settings.compare === "blink") settings.blinked = !settings.blinked;
    else settings.compare = "blink";
    this.changed();
  }

  choose(mode) {
    this.viewer.settings.compare = mode;
    this.changed();
  }

  // Move the line to a share of the width.
  swipe(share) {
    this.viewer.settings.swipe = clamp(share, 0, 1);
    this.viewer.requestRender(true);
  }

  // Move the line to a pointer.
  drag(pane, event) {
    this.swipe((event.clientX - pane.canvas.getBoundingClientRect().left) / pane.width);
  }

  step(direction) {
    const { settings } = this.viewer;
    if (this.isShown && settings.compare === "swipe") this.swipe(settings.swipe + direction * SWIPE_STEP);
  }

  // Whether a pointer is on the line of a pane.
  grips(pane, event) {
    const { settings } = this.viewer, x = event.clientX - pane.canvas.getBoundingClientRect().left;
    const near = event.pointerType === "touch" ? SWIPE_GRIP_TOUCH_PX : SWIPE_GRIP_PX;
    return pane.row === COMPARE && settings.compare === "swipe" && Math.abs(x - settings.swipe * pane.width) < near;
  }

  changed() {
    this.viewer.legend.refresh();
    this.viewer.requestRender(true);
  }

  // The choice of the mode.
  control() {
    const { viewer } = this, control = element("span", "labelled");
    control.append("Compare by", switchGroup("Compare by", COMPARE_MODES, () => viewer.settings.compare, (mode) => this.choose(mode)));
    if (viewer.second.isThere) {
      const pairs = Object.entries(COMPARED_PAIRS).map(([pair, names]) => [pair, names.map((name) => viewer.titleOf(name)).join(" and ")]);
      control.append(switchGroup("Compared", pairs, () => viewer.settings.comparedPair ?? "reference", (pair) => { viewer.settings.comparedPair = pair; this.changed(); }));
    }
    return control;
  }
}
