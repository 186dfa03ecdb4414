// The panel of the window: limits by sliders or typed, percentiles of the image, presets of computed tomography.

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
  }

  build() {
    const v = this.viewer, channel = v.data.channels[v.settings.channel], { low, high } = channel, span = high - low;
    this.sliders = SIDES.map((title, side) => rangeInput(title, [low, high, span / 500], v.window[side], (n) => this.change(side, n)));
    this.limits = SIDES.map((title, side) => numberInput(`${title}, typed`, (n) => this.change(side, n)));
    this.message = text("div", "", "message");
    this.message.setAttribute("role", "status");
    const sides = SIDES.map((title, side) => {
      const row = element("div", "limit");
      row.append(text("span", title), this.sliders[side], this.limits[side]);
      return row;
    });
    this.percentiles = PERCENTILES.map((p, n) => {
      const field = numberInput(n ? "upper percentile" : "lower percentile", () => this.usePercentiles());
      Object.assign(field, { min: "0", max: "100", step: "0.5", value: String(p) });
      return field;
    });
    const row = element("div", "limit");
    row.append(text("span", "percentiles"), ...this.percentiles, button("use", () => this.usePercentiles()));
    this.menu.panel.replaceChildren(
      ...sides, this.message, row, ...(isCt(channel) ? [this.presets()] : []), button("reset window", () => v.setWindow(null)),
    );
    this.show(v.window);
  }

  presets() {
    const row = element("div", "presets");
    row.append(...Object.entries(CT_WINDOWS).map(([name, [level, width]]) => {
      const b = button(name, () => this.viewer.setWindow([level - width / 2, level + width / 2]));
      b.title = `level ${level}, width ${width} HU`;
      return b;
    }));
    return row;
  }

  change(side, value) {
    const next = [...this.viewer.window];
    next[side] = value;
    const good = Number.isFinite(value) && next[1] > next[0];
    this.message.textContent = good ? "" : "Expected black below white.";
    if (good) this.viewer.setWindow(next);
  }

  usePercentiles() {
    const [lower, upper] = this.percentiles.map((field) => Number(field.value));
    const good = lower >= 0 && upper <= 100 && lower < upper;
    this.message.textContent = good ? "" : "Expected percentiles from 0 to 100, the lower first.";
    if (good) this.viewer.setWindow(percentileWindow(this.viewer, lower, upper));
  }

  show([low, high]) {
    if (!this.sliders) return;
    [low, high].forEach((value, side) => {
      this.sliders[side].value = String(value);
      if (!this.limits[side].matches(":focus")) this.limits[side].value = String(Number(value.toPrecision(5)));
    });
  }
}

function isCt({ name, low }) {
  return /\bct\b|hounsfield/i.test(name) || (low < AIR_HU && low > LOWEST_HU);
}

// Intensities at two percentiles of the voxels that are not background.
function percentileWindow(viewer, lower, upper) {
  const n = viewer.settings.channel, channel = viewer.data.channels[n], { stored, levels } = viewer.scene.channels[n];
  if (!stored.length) return viewer.window; // of a large volume that is still being read
  const counts = new Uint32Array(65536);
  for (const value of stored) counts[value]++;
  let total = stored.length - counts[channel.stored_background];
  if (total) counts[channel.stored_background] = 0; else total = stored.length;
  const at = (percentile) => {
    let sum = 0, last = 0;
    for (let value = 0; value < 65536; value++) {
      if (!counts[value]) continue;
      last = value;
      sum += counts[value];
      if (sum >= (percentile / 100) * total) break;
    }
    return intensity(channel, levels, last);
  };
  const low = at(lower), high = at(upper);
  return high > low ? [low, high] : [low, low + (channel.high - channel.low) / 1000];
}
