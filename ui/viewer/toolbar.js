// What can be set: modality, what lies over the image, planes, fill or outline, opacity, window, classes.

const STYLES = ["fill", "outline", "both"];
const KEYS = [
  ["wheel, ↑ ↓", "one slice on in the pane under the pointer"],
  ["Page Up, Page Down", "ten slices"],
  ["Home, End", "first and last slice"],
  ["click, drag", "move the crosshair; all panes follow"],
  ["Shift + arrows", "move the crosshair by one voxel"],
  ["right drag", "window: left and right its width, up and down its level"],
  ["Ctrl + wheel, + −", "zoom; 0 shows all"],
  ["Shift + drag", "move the zoomed picture"],
  ["F, O, B", "fill, outline, both"],
  ["H", "hide or show what lies over the image"],
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
    for (const [keys, what] of KEYS) list.append(text("dt", keys), text("dd", what));
    this.help.append(list);
  }

  // Make it anew for a scene: what can be set depends on what there is.
  build() {
    const v = this.viewer, s = v.settings, names = Object.keys(v.scene.layers);
    const parts = [];
    if (v.data.channels.length > 1) {
      parts.push(this.switch("Modality", v.data.channels.map((c, n) => [n, c.name]), () => s.channel, (n) => v.chooseChannel(n)));
    }
    const rows = [["image", "image"], ...names.map((n) => [n, n])];
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
    help.className = "ask";
    help.title = "Mouse and keys";
    help.setAttribute("aria-label", "Mouse and keys");
    help.setAttribute("aria-expanded", String(!this.help.hidden));
    parts.push(help);
    this.root.replaceChildren(...parts);
    this.refresh();
  }

  // Bring what is pressed in line with the settings.
  refresh() {
    for (const group of this.root.querySelectorAll("[role=group]")) group.refresh?.();
  }

  switch(title, choices, current, choose, several = false) {
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
      const now = current();
      for (const [value, b] of buttons) b.setAttribute("aria-pressed", String(several ? now.includes(value) : now === value));
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
    extra.append(this.check("crosshair", () => v.settings.cross, (on) => v.set("cross", on)));
    if (v.grid.affine) extra.append(this.check("patient's right on the left", () => v.settings.radiological, (on) => v.mirror(on)));
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

// Classes with their colours; a click hides or shows one, Alt and a click shows it alone. Differences have their own.
class Legend {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "legend");
  }

  build() {
    const v = this.viewer, { hidden, rows } = v.settings;
    const chips = v.classes.map((c) => {
      const b = button(c.name, (event) => {
        if (event.altKey) {
          const alone = v.classes.every((other) => hidden.has(other.name) === (other !== c));
          hidden.clear();
          if (!alone) for (const other of v.classes) if (other !== c) hidden.add(other.name);
        } else if (!hidden.delete(c.name)) hidden.add(c.name);
        v.colour();
        this.build();
      });
      b.prepend(swatch(c.colour));
      b.title = "show or hide; Alt and a click: this one alone";
      b.setAttribute("aria-pressed", String(!hidden.has(c.name)));
      return b;
    });
    const marks = rows.includes("errors") ? ERRORS.map((e) => { const s = text("span", e.name); s.prepend(swatch(e.colour)); return s; }) : [];
    this.root.replaceChildren(...(Object.keys(v.scene.layers).length ? chips : []), ...marks);
  }
}

function swatch(colour) {
  const mark = element("i");
  mark.style.background = colour;
  return mark;
}

function element(tag, style = "") {
  const made = document.createElement(tag);
  if (style) made.className = style;
  return made;
}

function text(tag, words) {
  const made = element(tag);
  made.textContent = words;
  return made;
}

function button(title, act) {
  const made = text("button", title);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}
