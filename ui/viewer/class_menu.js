// The classes of a viewer one by one in a menu: the colour of each, which a person may change, and a button that shows only
// this one. Colours are those of a class name in all viewers; the browser remembers them.

const classColours = rememberedColours(); // by name of the class

// Classes with the colours that they are shown in; `own` is the colour that the data gives a class.
function recoloured(classes) {
  return classes.map((c) => ({ ...c, own: c.colour, colour: classColours.get(c.name) ?? c.colour }));
}

// Give a class a colour; its own one, or none, takes the chosen one away.
function colourClass({ name, own }, colour = own) {
  if (colour.toLowerCase() === own.toLowerCase()) classColours.delete(name);
  else classColours.set(name, colour);
  rememberColour(name, classColours.get(name));
}

class ClassMenu {
  constructor(viewer) {
    this.viewer = viewer;
    this.list = element("div", "list");
    this.list.setAttribute("role", "group");
    this.list.setAttribute("aria-label", "Colour of each class");
    this.reset = button("Reset colours", () => this.change(() => { for (const c of viewer.classes) colourClass(c); }));
    this.menu = new Menu("Classes", this.list, this.reset);
    this.root = this.menu.root;
    this.root.classList.add("classes");
    this.rows = new Map(); // by name
  }

  // The rows; those of the same classes stay, so that an open colour dialog does.
  build(shown) {
    const names = shown.map((c) => c.name), kept = JSON.stringify(shown.map(({ name, own }) => [name, own]));
    if (kept !== this.kept) {
      this.kept = kept;
      this.rows = new Map(shown.map((c) => [c.name, this.row(c, names)]));
      this.list.replaceChildren(...[...this.rows.values()].map(({ root }) => root));
    }
    this.refresh();
  }

  row(c, names) {
    const root = element("div", "class"), { hidden } = this.viewer.settings, isIgnored = c === this.viewer.ignore;
    const colour = isIgnored ? swatch(c.colour, true) : colourInput(`Colour of ${c.name}`, (value) => this.change(() => colourClass(c, value)));
    const only = button("only", () => { showOnly(hidden, names, c.name); this.viewer.legend.changed(); });
    only.setAttribute("aria-label", `Show only ${c.name}`);
    only.title = "show only this class; again: all";
    root.append(colour, text("span", c.name), only);
    return { root, colour: isIgnored ? null : colour, only, names };
  }

  change(act) {
    act();
    this.viewer.updateColours();
    this.refresh();
  }

  refresh() {
    const { classes, settings } = this.viewer;
    for (const [name, { colour, only, names }] of this.rows) {
      const now = classes.find((c) => c.name === name);
      if (colour && now) colour.value = now.colour.toLowerCase();
      only.setAttribute("aria-pressed", String(isOnlyShown(settings.hidden, names, name)));
    }
    this.reset.disabled = !this.viewer.hasOwnColours;
  }
}
