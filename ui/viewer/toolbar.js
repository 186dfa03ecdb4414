// Toolbar in one row: modality, rows, planes, menus, tools, full screen, help.

const KEYS = [
  ["wheel, ↑ ↓", "next or previous slice of the pane that has the focus or on which the pointer rests"],
  ["Page Up, Page Down", "ten slices"],
  ["Home, End", "first and last slice"],
  ["click, drag", "move the crosshair; all panes follow"],
  ["Shift + arrows", "move the crosshair by one voxel"],
  ["G", "go to typed coordinates"],
  ["right drag", "window of the modality of the pane: horizontally the width, vertically the level"],
  ["Ctrl + wheel, + −", "zoom; 0 resets it"],
  ["Shift + drag", "move the zoomed image"],
  ["A", "the whole grid, or only the image and its labels"],
  ["E, Shift + E", "next or previous error of the list below the panes, from anywhere on the page"],
  ["U, Shift + U", "next or previous map: uncertainty, probability of a class, or none"],
  [", .", "the epoch before or after, where kept epochs of the run have segmented the case"],
  ["3", "surfaces in 3D beside the panes, or not"],
  ["T", "blink: reference and prediction in turn in one pane"],
  ["[ ]", "move the line of swipe, which can also be dragged"],
  ["space bar", "play the slices of the active plane, or stop"],
  ["D", "what a drag does: move the crosshair, measure a length, draw a region; Esc removes it"],
  ["Enter", "fix one end of a length or region at the crosshair; Enter again fixes the other"],
  ["I", "interpolation: smooth, or voxels as they are"],
  ["F, O, B", "fill, outline, both"],
  ["H", "hide or show the overlay"],
  ["Alt + click, Alt + Enter", "on a class or a kind of errors in the legend: show only this one, then all; so do the menus beside them"],
  ["X", "crosshair"],
  ["M, Shift + M", "next modality; a row for each modality at the same time, or not"],
  ["S", "full screen"],
  ["one finger", "slices, crosshair, length or region: the switch decides; drags the line of swipe; a tap moves the crosshair"],
  ["two fingers", "zoom and move"],
];

const SHORT_TITLE = 16; // characters of a layer's title that its button has room for

// A control with its title, which shows in the menu only.
function tool(title, control) {
  const made = element("span", "labelled tool");
  made.append(text("span", title), control);
  return made;
}

class Toolbar {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "bar");
    this.window = new WindowPanel(viewer);
    this.modalities = new ModalityMenu(viewer);
    this.overlay = new OverlayMenu(viewer);
    this.checks = element("div", "checks");
    this.more = new Menu("More", this.checks);
    this.tools = [];
    document.fonts.ready.then(() => this.fit()); // letters have another width in the font of the page
    this.help = element("div", "help");
    this.help.hidden = true;
    const list = element("dl");
    for (const [keys, effect] of KEYS) list.append(text("dt", keys), text("dd", effect));
    this.help.append(list);
  }

  // The controls depend on the channels and layers of the scene.
  build() {
    const v = this.viewer, s = v.settings, names = Object.keys(v.scene.layers), maps = v.scene.heat.groups, parts = [];
    const { activeElement } = this.root.getRootNode(), panel = this.root.contains(activeElement) ? activeElement.closest(".panel") : null;
    this.modality = null;
    if (v.data.channels.length > 1) {
      this.modality = tool("Modality", switchGroup("Modality", v.data.channels.map((c, n) => [n, c.name]), () => s.channel, (n) => v.setChannel(n)));
      this.modalities.build();
      parts.push(this.modality, this.modalities.menu.root);
    }
    const title = v.titleOf(SECOND), short = title !== SECOND && title.length <= SHORT_TITLE ? title : "second";
    const rows = [["image", "image"], ...names.map((n) => [n, n === SECOND ? short : layerTitle(n)])];
    if (v.hasErrors) rows.push(["errors", "errors"], ...v.second.rows.map((row) => [row, row]), [COMPARE, COMPARE]);
    if (rows.length + maps.length > 1) {
      const show = switchGroup("Show", rows, () => v.rows, (n) => v.toggleRow(n), true);
      show.querySelector(`[data-value="${SECOND}"]`)?.setAttribute("aria-label", title === SECOND || short === title ? title : `second: ${title}`);
      parts.push(show);
    }
    this.window.build();
    const menus = [this.window.menu.root];
    if (names.length + maps.length) menus.push(this.overlay.menu.root);
    this.planes = null;
    if (v.data.planes.length > 1) {
      const planes = [["all", "all"], ...v.data.planes.map((p) => [p, p])];
      this.planes = tool("Planes", switchGroup("Planes", planes, () => v.plane, (p) => v.choosePlane(p)));
      parts.push(this.planes);
    }
    this.firstMenu = menus[0];
    parts.push(...menus);
    if (v.touched) {
      const finger = element("span", "labelled");
      finger.append("One finger", switchGroup("One finger", FINGER_USES, () => v.touch.use, (use) => v.touch.choose(use)));
      parts.push(finger);
    }
    this.tools = this.buildTools(maps);
    this.checks.replaceChildren(...this.buildChecks());
    this.fullButton = this.icon("", "Full screen (key S)", () => v.toggleFull());
    this.fullButton.append(element("span", "corners"));
    this.helpButton = this.icon("?", "Mouse and keys", () => this.toggleHelp());
    this.end = element("span", "end");
    this.end.append(this.fullButton, this.helpButton);
    this.more.panel.replaceChildren(this.checks);
    v.fill(this.root, ...parts, ...this.tools, this.more.root, this.end);
    this.refresh();
    this.fit();
    if (!panel) return;
    if (activeElement.isConnected) activeElement.focus(); // a control that is not made anew
    else if (activeElement.dataset.value) panel.querySelector(`[data-value="${CSS.escape(activeElement.dataset.value)}"]`)?.focus();
  }

  // Controls that move into the menu where the row is full, the last first.
  buildTools(maps) {
    const v = this.viewer, s = v.settings, tools = [];
    if (v.surfaces.offered) tools.push(["Surfaces", switchGroup("Surfaces", [["3D", "3D"]], () => (v.surfaces.isOn ? ["3D"] : []), () => v.surfaces.toggle(), true)]);
    if (maps.length) tools.push(["Maps", switchGroup("Show maps", maps.map((name) => [name, name]), () => v.rows.map((row) => v.scene.heat.groupOf(row)), (name) => v.maps.toggle(name), true)]);
    if (!v.touched) {
      const marks = switchGroup("Marks", [["crosshair", "crosshair"]], () => (s.crosshair ? ["crosshair"] : []), () => v.set("crosshair", !s.crosshair), true);
      tools.push(["Marks", marks], ["Drag", v.tools.control()]);
    }
    this.playButton = this.icon("▶", "Play the slices of the active plane (space bar)", () => v.cine.toggle());
    tools.push(["Play slices", this.playButton], ["Picture", this.icon("PNG", "Save this view as a picture", () => savePicture(v))]);
    return tools.map(([title, control]) => tool(title, control));
  }

  buildChecks() {
    const v = this.viewer, s = v.settings, checks = [];
    if (v.grid.affine) checks.push(checkbox("patient's right on the left", s.radiological, (on) => v.setRadiological(on)));
    if (v.touched) checks.push(checkbox("crosshair", s.crosshair, (on) => v.set("crosshair", on))); // else one of the tools
    checks.push(checkbox("smooth image", s.smooth, (on) => v.setSmooth(on)), checkbox("scale bar", s.scaleBar, (on) => v.set("scaleBar", on)));
    return checks;
  }

  // Keep the controls in one row: move tools into the menu while it is too narrow; planes and modality only if that
  // suffices, the modality into the menu of the modalities.
  fit() {
    const { root, more, tools, end, planes, modality, modalities } = this;
    if (!root.firstElementChild?.offsetHeight) return; // not on screen
    this.width = root.clientWidth;
    for (const one of tools) root.insertBefore(one, more.root);
    const inRow = () => {
      if (planes) root.insertBefore(planes, this.firstMenu);
      if (modality) root.prepend(modality);
      modalities.title("");
    };
    const wraps = () => { const { offsetTop, offsetHeight } = root.firstElementChild; return end.offsetTop >= offsetTop + offsetHeight; };
    inRow();
    for (let n = tools.length - 1; n >= 0 && wraps(); n--) more.panel.prepend(tools[n]);
    if (planes && wraps()) more.panel.prepend(planes);
    if (modality && wraps()) {
      modalities.menu.panel.prepend(modality);
      modalities.title(this.viewer.titleLines("image")[0]);
    }
    if (wraps()) inRow();
    this.viewer.fill.moved();
    if (more.root.open) more.place();
  }

  // After the width may have changed.
  refit() {
    if (this.root.clientWidth !== this.width) this.fit();
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
    this.overlay.refresh();
    this.helpButton?.setAttribute("aria-expanded", String(!this.help.hidden));
    this.playButton?.setAttribute("aria-pressed", String(this.viewer.cine.plays));
    this.fullButton?.setAttribute("aria-pressed", String(this.viewer.full));
  }
}
