// The window of each modality: that of the image until one is chosen, which is kept for the next images. By percentiles it
// is found anew in each image; in Hounsfield units it stays as it is; arbitrary units differ between images, so another
// image gets it relative to its own first window, which makes it look as bright.

const LEAST_CONTRAST = 0.02; // share of the greys that an image has to use, for a window that is kept to be used for it

// Whether an image whose first window is [low, high] is more than black, white or one grey in another window.
function showsContrast([black, white], [low, high]) {
  const common = Math.min(white, high) - Math.max(black, low);
  return common > 0 && common >= LEAST_CONTRAST * (white - black);
}

// A window of one image carried over to another one, given the first windows of both.
function scaledWindow(limits, [fromLow, fromHigh], [low, high]) {
  return limits.map((n) => low + ((n - fromLow) / (fromHigh - fromLow)) * (high - low));
}

class Windows {
  constructor(viewer) {
    this.viewer = viewer;
    this.tables = new Map(); // number of a modality -> { scene, low, high, table }
    this.found = new Map(); // number of a modality -> { stored, percentiles, limits }
    this.root = text("div", "", "caption"); // what became of a window that does not fit an image
    this.root.setAttribute("role", "status");
    this.root.hidden = true;
  }

  // What was chosen, by the name of a modality: { image, limits, first, isCt } or { percentiles }.
  get chosen() {
    return this.viewer.settings.windows;
  }

  // The window of a modality, and how it came about: { limits, origin, refused }.
  resolve(number) {
    const { data } = this.viewer, channel = data.channels[number], own = { limits: channel.window, origin: "" }, kept = this.chosen.get(channel.name);
    if (!kept) return own;
    if (kept.percentiles) {
      const limits = this.atPercentiles(number, kept.percentiles);
      return limits ? { limits, origin: `percentiles ${kept.percentiles.join(" to ")}` } : own;
    }
    if (kept.image === data.image) return { limits: kept.limits, origin: "" };
    if (!kept.isCt && !isCt(channel)) return { limits: scaledWindow(kept.limits, kept.first, channel.window), origin: "chosen in another image, scaled to the intensities of this one" };
    return showsContrast(kept.limits, channel.window) ? { limits: kept.limits, origin: "" } : { ...own, refused: kept.limits };
  }

  // Intensities of a modality that are shown as black and white.
  of(number) {
    return this.resolve(number).limits;
  }

  // Lookup table of a modality from stored values to greys.
  table(number) {
    const { scene, data } = this.viewer, [low, high] = this.of(number), known = this.tables.get(number);
    if (known?.scene === scene && known.low === low && known.high === high) return known.table;
    const table = greyTable(data.channels[number], scene.channels[number].levels, [low, high]);
    this.tables.set(number, { scene, low, high, table });
    return table;
  }

  // Intensities at two percentiles of the voxels of a modality; null while they are not there.
  atPercentiles(number, percentiles) {
    const { data, scene } = this.viewer, { stored, levels } = scene.channels[number], known = this.found.get(number);
    if (known?.stored === stored && String(known.percentiles) === String(percentiles)) return known.limits;
    const limits = percentileWindow(data.channels[number], stored, levels, percentiles);
    this.found.set(number, { stored, percentiles, limits });
    return limits;
  }

  // Choose a window: { limits } in intensities or { percentiles }; null for that of the image.
  choose(number, window) {
    this.keep(number, window);
    this.viewer.toolbar.window.showModality(number);
    this.changed();
  }

  keep(number, window) {
    const { data } = this.viewer, channel = data.channels[number];
    if (window?.limits) this.chosen.set(channel.name, { ...window, image: data.image, first: channel.window, isCt: isCt(channel) });
    else if (window) this.chosen.set(channel.name, window);
    else this.chosen.delete(channel.name);
  }

  // After a choice, or with another image.
  changed() {
    const { viewer } = this;
    if (!viewer.scene || !viewer.rows) return; // nothing is shown yet
    const refused = viewer.shownChannels.map((number) => [viewer.data.channels[number].name, this.resolve(number).refused]).filter(([, limits]) => limits);
    const words = refused.map(([name, limits]) => `${name}: the window of the case before, ${limits.map(short).join(" to ")}, shows nothing of this image, so its own is used`);
    this.root.textContent = words.join(" · ");
    this.root.hidden = !words.length;
    viewer.toolbar.window.show();
    viewer.requestRender(true);
  }

  // A window as a part of the look of the viewer: "60,200", "p2,98", or nothing for that of the image.
  textOf(number) {
    const { data } = this.viewer, kept = this.chosen.get(data.channels[number].name), { limits, refused } = this.resolve(number);
    if (!kept || refused) return "";
    return kept.percentiles ? `p${kept.percentiles.join(",")}` : limits.map((n) => String(Number(n.toPrecision(6)))).join(",");
  }

  // Keep what such a text says; one that is none of ours is left out.
  read(number, text) {
    const byPercentiles = text.startsWith("p"), limits = text.slice(byPercentiles ? 1 : 0).split(",").map((n) => (n.trim() ? Number(n) : NaN));
    if (limits.length !== 2 || !limits.every(Number.isFinite) || limits[0] >= limits[1]) return;
    if (!byPercentiles) this.keep(number, { limits });
    else if (limits[0] >= 0 && limits[1] <= 100) this.keep(number, { percentiles: limits });
  }
}

// Intensities at two percentiles of the voxels that are not background; null without voxels, as of a large volume that is
// still being read.
function percentileWindow(channel, stored, levels, [lower, upper]) {
  if (!stored.length) return null;
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
