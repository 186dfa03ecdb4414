// The look of a viewer as a text for the address of a page, so that a copied link shows the same: "plane:axial;style:both".
// It names only what differs from the default.

const LOOK_STYLES = new Set(STYLES), LOOK_COMPARE = new Set(COMPARE_MODES.map(([mode]) => mode)), LOOK_COLOURINGS = new Set(ERROR_COLOURINGS.map(([by]) => by));

// Names as a list that no separator of the text breaks.
const listed = (names) => [...names].map(encodeURIComponent).join(",");
const unlisted = (value) => value.split(",").filter(Boolean).map(decodeURIComponent);
const within = (low, high) => (value) => { const n = Number(value); return value !== "" && n >= low && n <= high ? n : undefined; };

function lookOf(viewer) {
  const s = viewer.settings, { data } = viewer, window = s.windows.get(viewer.windowKey());
  const parts = {
    show: String(viewer.rows) === String(data.rows) ? "" : listed(viewer.rows),
    plane: viewer.plane === (data.plane ?? "all") ? "" : viewer.plane,
    modality: s.channel ? String(s.channel + 1) : "",
    window: window ? window.map((n) => String(Number(n.toPrecision(6)))).join(",") : "",
    style: s.style === "fill" ? "" : s.style,
    opacity: s.opacity === 0.5 ? "" : String(s.opacity),
    overlay: s.overlayHidden ? "off" : "",
    hide: listed([...s.hidden].filter((name) => [...viewer.classes, viewer.ignore].some((c) => c?.name === name))),
    errors: listed(s.hiddenErrors),
    colours: s.errorColouring === "kind" ? "" : s.errorColouring,
    surfaces: viewer.surfaces.look,
    compare: s.compare === "blink" ? "" : s.compare,
    epoch: viewer.epochs.isShown ? listed([viewer.epochs.titleOf(EPOCH)]) : "",
    pair: (s.comparedPair ?? "reference") === "reference" ? "" : s.comparedPair,
  };
  return Object.entries(parts).filter(([, value]) => value).map((pair) => pair.join(":")).join(";");
}

// Set what a text names; what is unknown or impossible is left as it is.
function applyLook(viewer, text) {
  let given;
  try {
    given = Object.fromEntries((text ?? "").split(";").map((part) => part.split(":", 2)).filter((pair) => pair.length === 2).map(([name, value]) => [name, ["show", "hide", "errors", "epoch"].includes(name) ? unlisted(value) : value]));
  } catch {
    return; // no text of ours
  }
  const s = viewer.settings, one = (allowed, value, set) => { if (allowed.has(value)) set(value); };
  if (given.show?.length) viewer.chosen.rows = given.show;
  one(new Set([...viewer.data.planes, "all"]), given.plane, (plane) => { viewer.chosen.plane = plane; });
  const channel = within(1, viewer.data.channels.length)(given.modality ?? "");
  if (Number.isInteger(channel)) s.channel = channel - 1;
  const limits = (given.window ?? "").split(",").map(Number);
  if (given.window && limits.length === 2 && limits[0] < limits[1]) s.windows.set(viewer.windowKey(), limits);
  one(LOOK_STYLES, given.style, (style) => { s.style = style; });
  const opacity = within(0.05, 1)(given.opacity ?? "");
  if (opacity) s.opacity = opacity;
  s.overlayHidden = given.overlay === "off";
  for (const name of given.hide ?? []) s.hidden.add(name);
  for (const { name } of ERROR_KINDS) if (given.errors?.includes(name)) s.hiddenErrors.add(name);
  if (given.epoch?.length) [s.epoch] = given.epoch;
  one(LOOK_COLOURINGS, given.colours, (by) => { s.errorColouring = by; });
  viewer.surfaces.look = given.surfaces ?? "";
  one(LOOK_COMPARE, given.compare, (mode) => { s.compare = mode; });
  one(new Set(Object.keys(COMPARED_PAIRS)), given.pair, (pair) => { s.comparedPair = pair; });
}
