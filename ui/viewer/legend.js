// Legend and overlay: a click on a class hides or shows it, Alt and a click shows only this class. Errors have a
// legend of their own, heat layers a colour bar. Beside it the style and the opacity of the overlay.

const STYLES = ["fill", "outline", "both"];

class Legend {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "overlay-bar");
    this.classes = element("div", "legend");
    this.classes.setAttribute("role", "group");
    this.classes.setAttribute("aria-label", "Classes");
    this.bars = element("div", "heat-bars");
    this.style = element("div", "overlay-style");
    const opacity = element("label", "slider");
    this.opacity = rangeInput("Opacity", [0.05, 1, 0.05], viewer.settings.opacity, (n) => viewer.set("opacity", n));
    opacity.append("Opacity", this.opacity);
    this.root.hidden = true; // until there is a volume
    this.errors = new ErrorLegend(viewer);
    this.root.append(this.classes, this.bars, this.style, opacity, this.errors.root);
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
    this.opacity.value = String(v.settings.opacity);
    v.fill(this.classes, ...chips);
    this.errors.build();
    const styles = switchGroup("Overlay", STYLES.map((n) => [n, n]), () => v.settings.style, (n) => v.set("style", n));
    const visibility = switchGroup("Visibility", [["overlay", "overlay"]], () => (v.settings.overlayHidden ? [] : ["overlay"]), () => v.toggleOverlay(), true);
    visibility.title = "hide or show the overlay (key H)";
    v.fill(this.style, visibility, styles);
    this.refresh();
  }

  refresh() {
    const v = this.viewer, shown = v.settings.overlayHidden ? [] : v.data.heat.filter(({ name }) => v.rows.includes(name));
    this.bars.replaceChildren(...shown.map((layer) => heatBar(layer, v.heatAlpha)));
    this.bars.hidden = !shown.length;
    for (const group of this.style.querySelectorAll("[role=group]")) group.refresh();
  }
}
