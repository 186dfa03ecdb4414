// Legend: a click on a class hides or shows it, Alt and a click or Enter shows only this class. Errors have a legend of
// their own, heat layers a colour bar. The menu of the overlay has its style and opacity.

const STYLES = ["fill", "outline", "both"], CHIP_HELP = "show or hide; Alt and a click or Enter: show only this";

// Hide all names but one; if it is the only one that is shown, show all.
function showOnly(hidden, names, name) {
  const isOnly = isOnlyShown(hidden, names, name);
  hidden.clear();
  if (!isOnly) for (const other of names) if (other !== name) hidden.add(other);
}

function isOnlyShown(hidden, names, name) {
  return names.length > 1 && names.every((other) => hidden.has(other) === (other !== name));
}

// A chip of a legend. A click hides or shows a name, Alt and a click or Enter shows only this one of all names.
function chip(name, names, hidden, changed) {
  const act = (only) => {
    if (only) showOnly(hidden, names, name);
    else if (!hidden.delete(name)) hidden.add(name);
    changed();
  };
  const made = button(name, (event) => act(event.altKey));
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    act(true);
  });
  made.setAttribute("aria-pressed", String(!hidden.has(name)));
  made.setAttribute("aria-keyshortcuts", "Alt+Enter");
  return made;
}

class Legend {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "overlay-bar");
    this.classes = element("div", "legend");
    this.classes.setAttribute("role", "group");
    this.classes.setAttribute("aria-label", "Classes");
    this.root.hidden = true; // until there is a volume
    this.errors = new ErrorLegend(viewer);
    this.compare = element("div", "compare");
    this.menu = new ClassMenu(viewer);
    this.swatches = new Map(); // by name of the class
    this.root.append(this.compare, this.classes, this.menu.root, viewer.maps.root, this.errors.root, viewer.second.root, viewer.epochs.root);
  }

  build() {
    const v = this.viewer, { hidden } = v.settings, shown = v.ignore ? [...v.classes, v.ignore] : v.classes;
    this.root.hidden = !Object.keys(v.scene.layers).length && !v.data.heat.length;
    if (this.root.hidden) return;
    const names = shown.map((c) => c.name);
    this.swatches.clear();
    const chips = shown.map((c) => {
      const b = chip(c.name, names, hidden, () => this.changed()), mark = swatch(c.colour, c === v.ignore);
      if (c !== v.ignore) this.swatches.set(c.name, mark);
      b.prepend(mark);
      b.title = (c === v.ignore ? "left out of training and scores; " : "") + CHIP_HELP;
      return b;
    });
    this.menu.build(shown);
    v.fill(this.compare, ...(v.rows.includes(COMPARE) ? [v.compare.control()] : []));
    v.fill(this.classes, ...chips);
    this.errors.build();
    v.second.build();
    v.epochs.build();
    this.refresh();
  }

  // Other classes are hidden.
  changed() {
    this.viewer.updateColours();
    this.build();
  }

  refresh() {
    this.viewer.maps.refresh();
    for (const { name, colour } of this.viewer.classes ?? []) if (this.swatches.has(name)) this.swatches.get(name).style.background = colour;
    for (const group of this.compare.querySelectorAll("[role=group]")) group.refresh();
  }
}

// Whether and how layers are drawn over the image.
class OverlayMenu {
  constructor(viewer) {
    this.viewer = viewer;
    this.menu = new Menu("Overlay");
    const { settings } = viewer, opacity = element("label", "slider");
    this.shown = checkbox("show the overlay (key H)", !settings.overlayHidden, () => viewer.toggleOverlay());
    this.style = switchGroup("Overlay", STYLES.map((n) => [n, n]), () => settings.style, (n) => viewer.set("style", n));
    this.style.title = "keys F, O, B";
    this.opacity = rangeInput("Opacity", [0.05, 1, 0.05], settings.opacity, (n) => viewer.set("opacity", n));
    opacity.append("Opacity", this.opacity);
    this.menu.panel.append(this.shown, this.style, opacity);
  }

  refresh() {
    const { opacity, overlayHidden } = this.viewer.settings;
    this.shown.firstChild.checked = !overlayHidden;
    this.menu.button.classList.toggle("off", overlayHidden);
    this.opacity.value = String(opacity);
    this.style.refresh();
  }
}
