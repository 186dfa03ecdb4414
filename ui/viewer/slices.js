// What a slice looks like: grey values through a window, classes as colours, differences, outlines.

const ERRORS = [
  { name: "false positive", colour: "#ff9f40" },
  { name: "false negative", colour: "#4fc3f7" },
  { name: "wrong class", colour: "#e05cd0" },
];
const AGREED = 4, AGREED_COLOUR = "#ffffff";

function rgba(colour, alpha) {
  const n = parseInt(colour.slice(1), 16);
  return ((Math.round(alpha * 255) << 24) | ((n & 255) << 16) | (n & 0xff00) | (n >> 16)) >>> 0;
}

// Stored 16-bit values to opaque grey pixels: black at the lower end of the window, white at the upper one.
function windowTable(channel, [low, high]) {
  const table = new Uint32Array(65536), step = (channel.high - channel.low) / 65535, width = Math.max(high - low, 1e-12);
  for (let stored = 0; stored < 65536; stored++) {
    const grey = Math.round(255 * clamp((channel.low + stored * step - low) / width, 0, 1));
    table[stored] = (0xff000000 | (grey << 16) | (grey << 8) | grey) >>> 0;
  }
  return table;
}

// Classes that are hidden count as background.
function shownTable(classes, hidden) {
  const table = new Uint8Array(256);
  classes.forEach((c, n) => { if (!hidden.has(c.name)) table[n + 1] = n + 1; });
  return table;
}

function paintImage(pixels, values, walk, table) {
  let p = 0;
  for (let y = 0; y < walk.height; y++) {
    let at = walk.start + y * walk.dy;
    for (let x = 0; x < walk.width; x++, at += walk.dx) pixels[p++] = table[values[at]];
  }
}

// The class of each pixel of a slice, hidden ones as background.
function readClasses(found, layer, walk, shown) {
  let p = 0;
  for (let y = 0; y < walk.height; y++) {
    let at = walk.start + y * walk.dy;
    for (let x = 0; x < walk.width; x++, at += walk.dx) found[p++] = shown[layer[at]];
  }
}

// Of each pixel how the prediction differs from the truth: 1 + index in ERRORS, AGREED, or 0 where neither is.
function readErrors(found, truth, prediction, walk, shown) {
  let p = 0;
  for (let y = 0; y < walk.height; y++) {
    let at = walk.start + y * walk.dy;
    for (let x = 0; x < walk.width; x++, at += walk.dx) {
      const t = shown[truth[at]], q = shown[prediction[at]];
      found[p++] = t === q ? (t ? AGREED : 0) : !t ? 1 : !q ? 2 : 3;
    }
  }
}

function paintClasses(pixels, found, colours) {
  for (let p = 0; p < pixels.length; p++) pixels[p] = colours[found[p]];
}

// The borders of the classes in a slice: of each class the straight runs of pixel edges at which it ends, as
// [x0, y0, x1, y1, inward x, inward y] in pixels; "inward" points into the class, so that neighbours' lines lie side by
// side and not on top of each other.
function outlines(found, width, height) {
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
        a = y > 0 ? found[(y - 1) * width + x] : 0;
        b = y < height ? found[y * width + x] : 0;
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
        a = x > 0 ? found[y * width + x - 1] : 0;
        b = x < width ? found[y * width + x] : 0;
        if (a === b) a = b = 0;
      }
      if (a !== left) { add(left, x, leftFrom, x, y, -1, 0); left = a; leftFrom = y; }
      if (b !== right) { add(right, x, rightFrom, x, y, 1, 0); right = b; rightFrom = y; }
    }
  }
  return runs;
}
