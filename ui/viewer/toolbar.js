// Toolbar and legend: modality, rows, planes, overlay style, opacity, window, classes.

const STYLES = ["fill", "outline", "both"];
const KEYS = [
  ["wheel, ↑ ↓", "next or previous slice of the pane under the pointer"],
  ["Page Up, Page Down", "ten slices"],
  ["Home, End", "first and last slice"],
  ["click, drag", "move the crosshair; all panes follow"],
  ["Shift + arrows", "move the crosshair by one voxel"],
  ["right drag", "window: horizontally the width, vertically the level"],
  ["Ctrl + wheel, + −", "zoom; 0 resets it"],
  ["A", "the whole grid, or only the image and its labels"],
  ["Shift + drag", "move the zoomed image"],
  ["F, O, B", "fill, outline, both"],
  ["H", "hide or show the overlay"],
  ["X", "crosshair"],
  ["M", "next modality"],
];

class Toolbar {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "bar");
    this.help = element("div", "help");
    this.help.hidden = true;
    const list = element("dl");
    for (const [keys, effect] of KEYS) list.append(text("dt", keys), text("dd", effect));
    this.help.append(list);
  }

  // The controls depend on the channels and layers of the scene.
  build() {
    const v = this.viewer, s = v.settings, names = Object.keys(v.scene.layers);
    const parts = [];
    if (v.data.channels.length > 1) {
      parts.push(this.switch("Modality", v.data.channels.map((c, n) => [n, c.name]), () => s.channel, (n) => v.setChannel(n)));
    }
    const rows = [["image", "image"], ...names.map((n) => [n, layerTitle(n)])];
    if (v.hasErrors) rows.push(["errors", "errors"]);
    if (rows.length > 1) parts.push(this.switch("Show", rows, () => s.rows, (n) => v.toggleRow(n), true));
    if (v.data.planes.length > 1) {
      const planes = [["all", "all"], ...v.data.planes.map((p) => [p, p])];
      parts.push(this.switch("Planes", planes, () => s.plane, (p) => { s.plane = p; v.layout(); }));
    }
    if (names.length) {
      parts.push(this.switch("Overlay", STYLES.map((n) => [n, n]), () => s.style, (n) => v.set("style", n)));
      parts.push(this.slider("Opacity", 0.05, 1, 0.05, () => s.opacity, (n) => v.set("opacity", n)));
    }
    parts.push(this.windowPanel());
    const help = button("?", () => { this.help.hidden = !this.help.hidden; help.setAttribute("aria-expanded", String(!this.help.hidden)); });
    this.helpButton = help;
    help.className = "help-button";
    help.title = "Mouse and keys";
    help.setAttribute("aria-label", "Mouse and keys");
    help.setAttribute("aria-expanded", String(!this.help.hidden));
    parts.push(help);
    this.root.replaceChildren(...parts);
    this.refresh();
  }

  // Set the pressed state of all buttons from the settings.
  refresh() {
    for (const group of this.root.querySelectorAll("[role=group]")) group.refresh?.();
  }

  switch(title, choices, current, choose, multiple = false) {
    const group = element("span", "switch");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", title);
    const buttons = choices.map(([value, name]) => {
      const b = button(name, () => { choose(value); this.refresh(); });
      b.dataset.value = String(value);
      return [value, b];
    });
    group.append(...buttons.map(([, b]) => b));
    group.refresh = () => {
      const pressed = current();
      for (const [value, b] of buttons) b.setAttribute("aria-pressed", String(multiple ? pressed.includes(value) : pressed === value));
    };
    return group;
  }

  slider(title, low, high, step, current, change) {
    const label = element("label", "slider"), input = element("input");
    Object.assign(input, { type: "range", min: String(low), max: String(high), step: String(step), value: String(current()) });
    input.setAttribute("aria-label", title);
    input.addEventListener("input", () => change(Number(input.value)));
    label.append(title, input);
    return label;
  }

  windowPanel() {
    const v = this.viewer, channel = v.data.channels[v.settings.channel], details = element("details", "window");
    const { low, high } = channel, span = high - low;
    const sides = [0, 1].map((side) => this.slider(side ? "white at" : "black at", low, high, span / 500, () => v.window[side], (n) => {
      const next = [...v.window];
      next[side] = n;
      if (next[1] - next[0] >= span / 500) v.setWindow(next);
    }));
    const reset = button("reset window", () => v.setWindow(null));
    const extra = element("div", "checks");
    extra.append(this.check("crosshair", () => v.settings.crosshair, (on) => v.set("crosshair", on)));
    if (v.grid.affine) extra.append(this.check("patient's right on the left", () => v.settings.radiological, (on) => v.setRadiological(on)));
    const panel = element("div", "panel");
    panel.append(...sides, reset, extra);
    details.append(text("summary", "Window"), panel);
    details.open = this.open ?? false;
    details.addEventListener("toggle", () => { this.open = details.open; });
    this.windowInputs = sides.map((label) => label.querySelector("input"));
    return details;
  }

  check(title, current, change) {
    const label = element("label"), input = element("input");
    input.type = "checkbox";
    input.checked = current();
    input.addEventListener("change", () => change(input.checked));
    label.append(input, title);
    return label;
  }

  showWindow([low, high]) {
    if (!this.windowInputs) return;
    this.windowInputs[0].value = String(low);
    this.windowInputs[1].value = String(high);
  }
}

// Class colours; a click hides or shows a class, Alt and a click shows only this class. Errors have their own colours.
class Legend {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "legend");
  }

  build() {
    const v = this.viewer, { hidden, rows } = v.settings, shown = v.ignore ? [...v.classes, v.ignore] : v.classes;
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
    const marks = rows.includes("errors") ? ERRORS.map((e) => { const s = text("span", e.name); s.prepend(swatch(e.colour)); return s; }) : [];
    this.root.replaceChildren(...(Object.keys(v.scene.layers).length ? chips : []), ...marks);
  }
}

function swatch(colour, hatched = false) {
  const mark = element("i");
  mark.style.background = hatched ? `repeating-linear-gradient(135deg, ${colour} 0 2px, #00000073 2px 4px)` : colour;
  return mark;
}

function element(tag, style = "") {
  const made = document.createElement(tag);
  if (style) made.className = style;
  return made;
}

function text(tag, content) {
  const made = element(tag);
  made.textContent = content;
  return made;
}

function button(title, action) {
  const made = text("button", title);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}
