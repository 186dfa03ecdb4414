// The look of a viewer as a text for the address of a page, so that a copied link shows the same: "plane:axial;style:both".
// It names only what differs from the default.

const LOOK_STYLES = new Set(STYLES), LOOK_COMPARE = new Set(COMPARE_MODES.map(([mode]) => mode)), LOOK_COLOURINGS = new Set(ERROR_COLOURINGS.map(([by]) => by));

const LOOK_LISTS = new Set(["show", "hide", "errors", "only", "epoch", "surfaces", "palette"]); // of words

// Names as a list that no separator of the text breaks.
const listed = (names) => [...names].map(encodeURIComponent).join(",");
const unlisted = (value) => value.split(",").filter(Boolean).map(decodeURIComponent);
const within = (low, high) => (value) => { const n = Number(value); return value !== "" && n >= low && n <= high ? n : undefined; };

function lookOf(viewer) {
  const s = viewer.settings, { data } = viewer, others = data.channels.map((_, n) => n).filter((n) => n !== s.channel);
  const parts = {
    show: String(viewer.rows) === String(data.rows) ? "" : listed(viewer.rows),
    plane: viewer.plane === (data.plane ?? "all") ? "" : viewer.plane,
    modality: s.channel ? String(s.channel + 1) : "",
    window: viewer.windows.textOf(s.channel),
    windows: others.map((n) => [n + 1, viewer.windows.textOf(n)]).filter(([, text]) => text).map(([n, text]) => `${n}_${text.replace(",", "_")}`).join(","),
    style: s.style === "fill" ? "" : s.style,
    opacity: s.opacity === 0.5 ? "" : String(s.opacity),
    overlay: s.overlayHidden ? "off" : "",
    hide: listed([...s.hidden].filter((name) => [...viewer.classes, viewer.ignore].some((c) => c?.name === name))),
    errors: listed(s.hiddenErrors),
    only: s.onlyPair ? listed([s.onlyPair]) : "",
    colours: s.errorColouring === "kind" ? "" : s.errorColouring,
    palette: listed(viewer.classes.filter((c) => classColours.has(c.name)).map((c) => `${c.name}=${c.colour.slice(1)}`)),
    surfaces: listed(viewer.surfaces.look),
    compare: s.compare === "blink" ? "" : s.compare,
    swipe: s.swipe === 0.5 ? "" : String(Number(s.swipe.toFixed(3))),
    blink: s.blinked ? "second" : "",
    epoch: viewer.epochs.isShown ? listed([viewer.epochs.titleOf(EPOCH)]) : "",
    pair: (s.comparedPair ?? "reference") === "reference" ? "" : s.comparedPair,
  };
  return Object.entries(parts).filter(([, value]) => value).map((pair) => pair.join(":")).join(";");
}

// Set what a text names; what is unknown or impossible is left as it is.
function applyLook(viewer, text) {
  let given;
  try {
    given = Object.fromEntries((text ?? "").split(";").map((part) => part.split(":", 2)).filter((pair) => pair.length === 2).map(([name, value]) => [name, LOOK_LISTS.has(name) ? unlisted(value) : value]));
  } catch {
    return; // no text of ours
  }
  const s = viewer.settings, one = (allowed, value, set) => { if (allowed.has(value)) set(value); };
  if (given.show?.length) viewer.chosen.rows = given.show;
  one(new Set([...viewer.data.planes, "all"]), given.plane, (plane) => { viewer.chosen.plane = plane; });
  const channel = within(1, viewer.data.channels.length)(given.modality ?? "");
  if (Number.isInteger(channel)) s.channel = channel - 1;
  viewer.windows.read(s.channel, given.window ?? "");
  for (const [number, ...limits] of (given.windows ?? "").split(",").map((one) => one.split("_"))) {
    if (viewer.data.channels[number - 1]) viewer.windows.read(number - 1, limits.join(","));
  }
  one(LOOK_STYLES, given.style, (style) => { s.style = style; });
  const opacity = within(0.05, 1)(given.opacity ?? "");
  if (opacity) s.opacity = opacity;
  s.overlayHidden = given.overlay === "off";
  for (const name of given.hide ?? []) s.hidden.add(name);
  for (const { name } of ERROR_KINDS) if (given.errors?.includes(name)) s.hiddenErrors.add(name);
  for (const entry of given.palette ?? []) {
    const [name, colour] = [entry.slice(0, -7), `#${entry.slice(-6)}`];
    if (name && entry.at(-7) === "=" && IS_COLOUR.test(colour)) classColours.set(name, colour);
  }
  if (given.only?.length && viewer.errors.pairNames.has(given.only[0])) [s.onlyPair] = given.only;
  if (given.epoch?.length) [s.epoch] = given.epoch;
  one(LOOK_COLOURINGS, given.colours, (by) => { s.errorColouring = by; });
  viewer.surfaces.look = given.surfaces ?? [];
  one(LOOK_COMPARE, given.compare, (mode) => { s.compare = mode; });
  s.swipe = within(0, 1)(given.swipe ?? "") ?? s.swipe;
  s.blinked = given.blink === "second";
  one(new Set(Object.keys(COMPARED_PAIRS)), given.pair, (pair) => { s.comparedPair = pair; });
}
