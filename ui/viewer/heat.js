// Heat layers: a number per voxel, in colours over the image, with a colour bar. One is fetched when it is first shown.

// From low to high; lightness grows evenly, also for colour-blind eyes. Signed values have a series for each sign, blue and
// orange, from 0 outward.
const HEAT_COLOURS = ["#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf"];
const NEGATIVE_COLOURS = ["#08519c", "#4fa3dc", "#a6dcff"], POSITIVE_COLOURS = ["#99330f", "#e8743b", "#ffc27a"];
const HEAT_FADE = 0.15; // share of the range from its low end, or from 0, over which colours appear
const HEAT_STOPS = 32; // of the gradient of a colour bar

// Colour and opacity (0 to 1) at a share of the range, -1 to 1 where values are signed.
function heatColour(share, signed = false) {
  if (signed) return colourIn(share < 0 ? NEGATIVE_COLOURS : POSITIVE_COLOURS, Math.abs(share));
  return colourIn(HEAT_COLOURS, share);
}

function colourIn(colours, share) {
  const at = clamp(share, 0, 1) * (colours.length - 1), n = Math.min(Math.floor(at), colours.length - 2);
  const [a, b] = [colours[n], colours[n + 1]].map((c) => [1, 3, 5].map((p) => parseInt(c.slice(p, p + 2), 16)));
  const mixed = a.map((value, p) => Math.round(value + (b[p] - value) * (at - n)));
  return { colour: `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`, opacity: clamp(share / HEAT_FADE, 0, 1) };
}

// Colours of the stored values of a layer: from `bright` on, and from -`bright` on where values are signed, the brightest.
function heatTable({ low, high, levels, bright, signed }, alpha) {
  const table = new Uint32Array(256), first = signed ? 0 : low, end = (bright ?? high) - first;
  for (let stored = 0; stored < 256; stored++) {
    const { colour, opacity } = heatColour((low + ((high - low) * stored) / levels - first) / end, signed);
    table[stored] = rgba(colour, alpha * opacity);
  }
  return table;
}

function paintHeat(pixels, values, layout, table) {
  let p = 0;
  for (let y = 0; y < layout.height; y++) {
    let at = layout.offset + y * layout.dy;
    for (let x = 0; x < layout.width; x++, at += layout.dx) pixels[p++] = table[values[at]];
  }
}

// A stored value as text with its unit; the ends of signed values stand for all beyond them, too.
function heatText({ low, high, levels, unit, digits, signed }, stored) {
  const beyond = !signed ? "" : stored === 0 ? "≤ " : stored === levels ? "≥ " : "";
  return beyond + withUnit(heatNumber((low + ((high - low) * stored) / levels).toFixed(digits)), unit);
}

// A number with a true minus sign.
function heatNumber(digits) {
  return digits.replace("-", "−");
}

function withUnit(number, unit) {
  return unit ? `${number} ${unit}` : number;
}

// The ends of the colour bar, as text.
function heatEnds({ low, high, unit, bright, signed }) {
  const last = bright ?? high, ends = [signed ? -last : low, last].map((value) => withUnit(heatNumber(String(Number(value.toPrecision(4)))), unit));
  if (signed) return [`≤ ${ends[0]}`, `≥ ${ends[1]}`];
  return last < high ? [ends[0], `≥ ${ends[1]}`] : ends;
}

// What the colours of a bar mean, in words.
function heatMeaning(name, scale) {
  const [low, high] = heatEnds(scale);
  return scale.signed ? `Colours of ${name}: blue to ${low}, orange to ${high}, none for 0` : `Colours of ${name}: dark for ${low}, bright for ${high}`;
}

// Colours along the bar, as they are over black in panes of this opacity.
function heatStops({ signed }, alpha) {
  return Array.from({ length: HEAT_STOPS + 1 }, (_, n) => {
    const share = n / HEAT_STOPS, { colour, opacity } = heatColour(signed ? 2 * share - 1 : share, signed), parts = [1, 3, 5].map((p) => parseInt(colour.slice(p, p + 2), 16));
    return `rgb(${parts.map((value) => Math.round(value * opacity * alpha)).join(",")})`;
  });
}

// The heat layers of a scene. `open(layer, report)` gives a promise of { slice(view, slice), at(voxel) }, which give null
// and undefined while voxels are fetched; `report(share)` is called while values are computed. `arrived` is called when a
// layer is there, or cannot be had, or more of it is computed.
class HeatLayers {
  constructor(layers, open, arrived) {
    this.layers = new Map(layers.map((layer) => [layer.name, layer]));
    this.opened = new Map(); // name -> what `open` gave, or null while it is fetched
    this.shares = new Map(); // name -> share that is computed
    this.failed = null;
    Object.assign(this, { open, arrived });
  }

  has(name) {
    return this.layers.has(name);
  }

  // Names of the groups, and of the layers that are in none.
  get groups() {
    return [...new Set([...this.layers.keys()].map((name) => this.groupOf(name)))];
  }

  groupOf(name) {
    return this.layers.get(name)?.group || name;
  }

  ofGroup(group) {
    return [...this.layers.keys()].filter((name) => this.groupOf(name) === group);
  }

  // What is going on with a layer that is waited for.
  status(name) {
    const share = this.shares.get(name);
    return share === undefined ? "Loading" : `Computing: ${Math.round(100 * share)} %`;
  }

  isWaiting(name) {
    return this.opened.get(name) === null;
  }

  // A slice of a layer, as { values, layout }; null while it is fetched.
  slice(name, view, slice) {
    if (!this.opened.has(name)) this.fetch(name);
    return this.opened.get(name)?.slice(view, slice) ?? null;
  }

  // The stored value of a voxel, of a layer that has been shown; else undefined.
  at(name, voxel) {
    return this.opened.get(name)?.at(voxel);
  }

  // Stop asking for what is computed: the scene is no longer shown.
  close() {
    this.closed = true;
  }

  async fetch(name) {
    this.opened.set(name, null);
    const report = (share) => {
      if (this.closed) throw new Error("The scene is closed.");
      this.shares.set(name, share);
      this.arrived();
    };
    try {
      this.opened.set(name, await this.open(this.layers.get(name), report));
    } catch (error) {
      this.failed = error;
    }
    this.shares.delete(name);
    if (!this.closed) this.arrived();
  }
}
