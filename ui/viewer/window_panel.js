// The panel of the window: limits by sliders or typed, percentiles of the image, presets of computed tomography. It is that of
// one modality; where several are shown, of the one that is chosen in it.

// Level and width in Hounsfield units.
const CT_WINDOWS = { brain: [40, 80], lung: [-600, 1500], bone: [400, 1800], abdomen: [40, 400], liver: [60, 160] };
const AIR_HU = -700; // images that reach below it, and not far below, are taken for computed tomography
const LOWEST_HU = -4200;
const PERCENTILES = [0.5, 99.5];
const SIDES = ["black at", "white at"];

class WindowPanel {
  constructor(viewer) {
    this.viewer = viewer;
    this.menu = new Menu("Window");
    this.chosen = null; // number of the modality that was chosen in the panel
  }

  // Number of the modality whose window it is.
  get number() {
    const { shownChannels, settings } = this.viewer;
    return [this.chosen, settings.channel].find((number) => shownChannels.includes(number)) ?? shownChannels[0];
  }

  build() {
    const v = this.viewer, number = (this.built = this.number), channel = v.data.channels[number], { low, high } = channel, span = high - low, window = v.windows.of(number);
    this.sliders = SIDES.map((title, side) => rangeInput(title, [low, high, span / 500], window[side], (n) => this.change(side, n)));
    this.limits = SIDES.map((title, side) => numberInput(`${title}, typed`, (n) => this.change(side, n)));
    this.message = text("div", "", "message");
    this.message.setAttribute("role", "status");
    this.origin = text("div", "", "caption");
    const sides = SIDES.map((title, side) => {
      const row = element("div", "limit");
      row.append(text("span", title), this.sliders[side], this.limits[side]);
      return row;
    });
    const kept = v.settings.windows.get(channel.name)?.percentiles ?? PERCENTILES;
    this.percentiles = kept.map((p, n) => {
      const field = numberInput(n ? "upper percentile" : "lower percentile", () => this.usePercentiles());
      Object.assign(field, { min: "0", max: "100", step: "0.5", value: String(p) });
      return field;
    });
    const row = element("div", "limit");
    row.append(text("span", "percentiles"), ...this.percentiles, button("use", () => this.usePercentiles()));
    this.menu.panel.replaceChildren(
      ...this.modalities(), ...sides, this.message, row, ...(isCt(channel) ? [this.presets()] : []), this.origin, button("reset window", () => v.windows.choose(number, null)),
    );
    this.show();
  }

  // The choice of the modality, where several are shown.
  modalities() {
    const { shownChannels, data } = this.viewer;
    if (shownChannels.length < 2) return [];
    const choice = switchGroup("Window of", shownChannels.map((number) => [number, data.channels[number].name]), () => this.number, (number) => {
      this.showModality(number);
      this.menu.panel.querySelector(`[data-value="${number}"]`).focus();
    });
    choice.refresh();
    return [choice];
  }

  // Show the window of a modality.
  showModality(number) {
    this.chosen = number;
    if (this.sliders && this.built !== this.number) this.build();
  }

  presets() {
    const row = element("div", "presets");
    row.append(...Object.entries(CT_WINDOWS).map(([name, [level, width]]) => {
      const b = button(name, () => this.viewer.windows.choose(this.built, { limits: [level - width / 2, level + width / 2] }));
      b.title = `level ${level}, width ${width} HU`;
      return b;
    }));
    return row;
  }

  change(side, value) {
    const { windows } = this.viewer, next = [...windows.of(this.built)];
    next[side] = value;
    const good = Number.isFinite(value) && next[1] > next[0];
    this.message.textContent = good ? "" : "Expected black below white.";
    if (good) windows.choose(this.built, { limits: next });
  }

  usePercentiles() {
    const [lower, upper] = this.percentiles.map((field) => Number(field.value));
    const good = lower >= 0 && upper <= 100 && lower < upper;
    this.message.textContent = good ? "" : "Expected percentiles from 0 to 100, the lower first.";
    if (good) this.viewer.windows.choose(this.built, { percentiles: [lower, upper] });
  }

  // The window as it is now.
  show() {
    if (!this.sliders || this.built >= this.viewer.data.channels.length) return;
    const { limits, origin } = this.viewer.windows.resolve(this.built);
    limits.forEach((value, side) => {
      this.sliders[side].value = String(value);
      if (!this.limits[side].matches(":focus")) this.limits[side].value = String(Number(value.toPrecision(5)));
    });
    this.origin.textContent = origin;
    this.origin.hidden = !origin;
  }
}

function isCt({ name, low }) {
  return /\bct\b|hounsfield/i.test(name) || (low < AIR_HU && low > LOWEST_HU);
}
