// Toolbar: modality, rows, planes, window, crosshair, full screen, picture, help.

const KEYS = [
  ["wheel, ↑ ↓", "next or previous slice of the pane that has the focus or on which the pointer rests"],
  ["Page Up, Page Down", "ten slices"],
  ["Home, End", "first and last slice"],
  ["click, drag", "move the crosshair; all panes follow"],
  ["Shift + arrows", "move the crosshair by one voxel"],
  ["G", "go to typed coordinates"],
  ["right drag", "window: horizontally the width, vertically the level"],
  ["Ctrl + wheel, + −", "zoom; 0 resets it"],
  ["Shift + drag", "move the zoomed image"],
  ["A", "the whole grid, or only the image and its labels"],
  ["E, Shift + E", "next or previous error of the list below the panes, from anywhere on the page"],
  ["T", "blink: reference and prediction in turn in one pane"],
  ["[ ]", "move the line of swipe, which can also be dragged"],
  ["space bar", "play the slices of the active plane, or stop"],
  ["D", "what a drag does: move the crosshair, measure a length, draw a region; Esc removes it"],
  ["Enter", "fix one end of a length or region at the crosshair; Enter again fixes the other"],
  ["I", "interpolation: smooth, or voxels as they are"],
  ["F, O, B", "fill, outline, both"],
  ["H", "hide or show the overlay"],
  ["X", "crosshair"],
  ["M", "next modality"],
  ["S", "full screen"],
  ["one finger", "slices, crosshair, length or region: the switch decides; drags the line of swipe; a tap moves the crosshair"],
  ["two fingers", "zoom and move"],
];

class Toolbar {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "bar");
    this.window = new WindowPanel(viewer);
    this.help = element("div", "help");
    this.help.hidden = true;
    const list = element("dl");
    for (const [keys, effect] of KEYS) list.append(text("dt", keys), text("dd", effect));
    this.help.append(list);
  }

  // The controls depend on the channels and layers of the scene.
  build() {
    const v = this.viewer, s = v.settings, names = Object.keys(v.scene.layers), parts = [];
    if (v.data.channels.length > 1) {
      parts.push(switchGroup("Modality", v.data.channels.map((c, n) => [n, c.name]), () => s.channel, (n) => v.setChannel(n)));
    }
    const rows = [["image", "image"], ...names.map((n) => [n, layerTitle(n)])];
    if (v.hasErrors) rows.push(["errors", "errors"], [COMPARE, COMPARE]);
    rows.push(...[...v.scene.heat.layers.keys()].map((name) => [name, name]));
    if (rows.length > 1) parts.push(switchGroup("Show", rows, () => v.rows, (n) => v.toggleRow(n), true));
    if (v.data.planes.length > 1) {
      const planes = [["all", "all"], ...v.data.planes.map((p) => [p, p])];
      parts.push(switchGroup("Planes", planes, () => v.plane, (p) => v.choosePlane(p)));
    }
    if (v.rows.includes(COMPARE)) parts.push(v.compare.control());
    this.window.build();
    parts.push(this.window.root);
    if (v.touched) {
      const finger = element("span", "labelled");
      finger.append("One finger", switchGroup("One finger", FINGER_USES, () => v.touch.use, (use) => v.touch.choose(use)));
      parts.push(finger);
    } else {
      parts.push(switchGroup("Marks", [["crosshair", "crosshair"]], () => (s.crosshair ? ["crosshair"] : []), () => v.set("crosshair", !s.crosshair), true));
    }
    const end = element("span", "end");
    if (!v.touched) end.append(v.tools.control());
    this.fullButton = this.icon("", "Full screen (key S)", () => v.toggleFull());
    this.fullButton.append(element("span", "corners"));
    this.helpButton = this.icon("?", "Mouse and keys", () => this.toggleHelp());
    this.playButton = this.icon("▶", "Play the slices of the active plane (space bar)", () => v.cine.toggle());
    end.append(this.playButton, this.icon("PNG", "Save this view as a picture", () => savePicture(v)), this.fullButton, this.helpButton);
    parts.push(end);
    v.fill(this.root, ...parts);
    this.refresh();
  }

  icon(sign, title, action) {
    const b = button(sign, action);
    b.className = "icon";
    b.title = title;
    b.setAttribute("aria-label", title);
    return b;
  }

  toggleHelp() {
    this.help.hidden = !this.help.hidden;
    this.refresh();
    this.viewer.layout();
  }

  // Set the pressed state of all buttons from the settings.
  refresh() {
    for (const group of this.root.querySelectorAll("[role=group]")) group.refresh?.();
    this.helpButton?.setAttribute("aria-expanded", String(!this.help.hidden));
    this.playButton?.setAttribute("aria-pressed", String(this.viewer.cine.plays));
    this.fullButton?.setAttribute("aria-pressed", String(this.viewer.full));
  }
}
