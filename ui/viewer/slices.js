// Pixels of a slice: windowed intensities, class colours, outlines.

const layerTitle = (name) => (name === "truth" ? "reference" : name);
const IGNORED = 255; // index of voxels with the ignore label, which belong to no class
const EVERY_CLASS = Uint8Array.from({ length: 256 }, (_, n) => n); // table of class indices that hides none
const HATCH_PERIOD = 7, HATCH_WIDTH = 1.6; // between the lines of the hatching, and their width, CSS pixels

function rgba(colour, alpha) {
  const n = parseInt(colour.slice(1), 16);
  return ((Math.round(alpha * 255) << 24) | ((n & 255) << 16) | (n & 0xff00) | (n >> 16)) >>> 0;
}

// Lookup table from stored 16-bit values to opaque grey pixels, black to white over the window.
function greyTable(channel, levels, [low, high]) {
  const table = new Uint32Array(65536), width = Math.max(high - low, 1e-30);
  for (let stored = 0; stored < 65536; stored++) {
    const grey = Math.round(255 * clamp((intensity(channel, levels, stored) - low) / width, 0, 1));
    table[stored] = (0xff000000 | (grey << 16) | (grey << 8) | grey) >>> 0;
  }
  return table;
}

// Lookup table of class indices with hidden classes, and a hidden ignore label, as background.
function visibleTable(classes, ignore, hidden) {
  const table = new Uint8Array(256);
  classes.forEach((c, n) => { if (!hidden.has(c.name)) table[n + 1] = n + 1; });
  if (ignore && !hidden.has(ignore.name)) table[IGNORED] = IGNORED;
  return table;
}

function paintImage(pixels, values, layout, table) {
  let p = 0;
  for (let y = 0; y < layout.height; y++) {
    let at = layout.offset + y * layout.dy;
    for (let x = 0; x < layout.width; x++, at += layout.dx) pixels[p++] = table[values[at]];
  }
}

// Class index of each pixel of a slice, hidden classes as background.
function readClasses(indices, layer, layout, visible) {
  let p = 0;
  for (let y = 0; y < layout.height; y++) {
    let at = layout.offset + y * layout.dy;
    for (let x = 0; x < layout.width; x++, at += layout.dx) indices[p++] = visible[layer[at]];
  }
}

// Opaque pixels where voxels are ignored; returns whether there are any.
function paintIgnored(pixels, indices) {
  let any = false;
  for (let p = 0; p < pixels.length; p++) {
    const ignored = indices[p] === IGNORED;
    pixels[p] = ignored ? 0xffffffff : 0;
    any ||= ignored;
  }
  return any;
}

// A pattern of diagonal lines, each with a dark edge, so that they are visible on any image.
function hatchPattern(context, colour, ratio) {
  const tile = document.createElement("canvas"), side = (tile.width = tile.height = Math.round(HATCH_PERIOD * ratio));
  const g = tile.getContext("2d");
  for (const [style, width] of [["rgba(0,0,0,0.55)", HATCH_WIDTH + 1.2], [colour, HATCH_WIDTH]]) {
    g.strokeStyle = style;
    g.lineWidth = width * ratio;
    g.beginPath();
    for (const shift of [-side, 0, side]) { g.moveTo(shift - side, 2 * side); g.lineTo(shift + 2 * side, -side); }
    g.stroke();
  }
  return context.createPattern(tile, "repeat");
}

function paintClasses(pixels, indices, colours) {
  for (let p = 0; p < pixels.length; p++) pixels[p] = colours[indices[p]];
}

// Borders of the classes in a slice: for each class its straight segments of pixel edges, as [x0, y0, x1, y1, nx, ny] in
// pixels. The normal (nx, ny) points into the class: lines drawn on that side do not cover those of the neighbour.
function outlines(indices, width, height) {
  const runs = new Map();
  const add = (c, x0, y0, x1, y1, nx, ny) => {
    if (!c) return;
    let list = runs.get(c);
    if (!list) runs.set(c, (list = []));
    list.push(x0, y0, x1, y1, nx, ny);
  };
  for (let y = 0; y <= height; y++) {
    let above = 0, below = 0, aboveFrom = 0, belowFrom = 0;
    for (let x = 0; x <= width; x++) {
      let a = 0, b = 0;
      if (x < width) {
        a = y > 0 ? indices[(y - 1) * width + x] : 0;
        b = y < height ? indices[y * width + x] : 0;
        if (a === b) a = b = 0;
      }
      if (a !== above) { add(above, aboveFrom, y, x, y, 0, -1); above = a; aboveFrom = x; }
      if (b !== below) { add(below, belowFrom, y, x, y, 0, 1); below = b; belowFrom = x; }
    }
  }
  for (let x = 0; x <= width; x++) {
    let left = 0, right = 0, leftFrom = 0, rightFrom = 0;
    for (let y = 0; y <= height; y++) {
      let a = 0, b = 0;
      if (y < height) {
        a = x > 0 ? indices[y * width + x - 1] : 0;
        b = x < width ? indices[y * width + x] : 0;
        if (a === b) a = b = 0;
      }
      if (a !== left) { add(left, x, leftFrom, x, y, -1, 0); left = a; leftFrom = y; }
      if (b !== right) { add(right, x, rightFrom, x, y, 1, 0); right = b; rightFrom = y; }
    }
  }
  return runs;
}
