// Legend: a click on a class hides or shows it, Alt and a click shows only this class. Errors have a legend of their
// own, heat layers a colour bar. The menu of the overlay has its style and opacity.

const STYLES = ["fill", "outline", "both"];

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
    this.root.append(this.compare, this.classes, viewer.maps.root, this.errors.root, viewer.second.root, viewer.epochs.root);
  }

  build() {
    const v = this.viewer, { hidden } = v.settings, shown = v.ignore ? [...v.classes, v.ignore] : v.classes;
    this.root.hidden = !Object.keys(v.scene.layers).length && !v.data.heat.length;
    if (this.root.hidden) return;
    const chips = shown.map((c) => {
      const b = button(c.name, (event) => {
        if (event.altKey) {
          const onlyVisible = shown.every((other) => hidden.has(other.name) === (other !== c));
          hidden.clear();
          if (!onlyVisible) for (const other of shown) if (other !== c) hidden.add(other.name);
        } else if (!hidden.delete(c.name)) hidden.add(c.name);
        v.updateColours();
        this.build();
      });
      b.prepend(swatch(c.colour, c === v.ignore));
      b.title = (c === v.ignore ? "left out of training and scores; " : "") + "show or hide; Alt and a click: show only this";
      b.setAttribute("aria-pressed", String(!hidden.has(c.name)));
      return b;
    });
    v.fill(this.compare, ...(v.rows.includes(COMPARE) ? [v.compare.control()] : []));
    v.fill(this.classes, ...chips);
    this.errors.build();
    v.second.build();
    v.epochs.build();
    this.refresh();
  }

  refresh() {
    this.viewer.maps.refresh();
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
