// Fetches volumes and caches the most recent ones, so that returning to a case is immediate.

const CACHE_BYTES = 400e6, MIN_CACHED = 4;
const cache = new Map(); // URL -> { promise, bytes }, least recently used first

function fetchVolume(url) {
  let entry = cache.get(url);
  if (entry) {
    cache.delete(url);
  } else {
    entry = { promise: load(url), bytes: 0 };
    entry.promise.then(
      (buffer) => { entry.bytes = buffer.byteLength; evict(); },
      () => cache.delete(url), // the next call tries again
    );
  }
  cache.set(url, entry);
  return entry.promise;
}

async function load(url) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin" });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (response.status === 404) throw new Error("The volume is no longer available: load the page again.");
  if (!response.ok) throw new Error(`The server refused the volume (${response.status}).`);
  return response.arrayBuffer();
}

function evict() {
  let total = 0;
  for (const { bytes } of cache.values()) total += bytes;
  for (const [url, { bytes }] of cache) {
    if (total <= CACHE_BYTES || cache.size <= MIN_CACHED) break;
    cache.delete(url);
    total -= bytes;
  }
}

// All volumes of a scene: { channels: [Uint16Array], layers: { name: Uint8Array } }.
async function fetchScene(data) {
  const voxels = data.grid.shape.reduce((a, b) => a * b, 1), names = Object.keys(data.layers);
  const [image, ...layers] = await Promise.all([data.image, ...names.map((n) => data.layers[n])].map(fetchVolume));
  if (image.byteLength !== voxels * 2 * data.channels.length || layers.some((l) => l.byteLength !== voxels)) {
    throw new Error("The volume is incomplete: load the page again.");
  }
  return {
    channels: data.channels.map((_, n) => new Uint16Array(image, n * voxels * 2, voxels)),
    layers: Object.fromEntries(names.map((name, n) => [name, new Uint8Array(layers[n])])),
  };
}

// Bounding box of the non-zero voxels: [first, last] along each axis; null if all are 0.
function boundingBox(values, [ni, nj, nk]) {
  const low = [ni, nj, nk], high = [-1, -1, -1];
  for (let k = 0, row = 0; k < nk; k++) for (let j = 0; j < nj; j++, row += ni) {
    let first = 0, last = ni - 1;
    while (first < ni && !values[row + first]) first++;
    if (first === ni) continue;
    while (!values[row + last]) last--;
    if (first < low[0]) low[0] = first;
    if (last > high[0]) high[0] = last;
    if (j < low[1]) low[1] = j;
    if (j > high[1]) high[1] = j;
    if (k < low[2]) low[2] = k;
    high[2] = k;
  }
  return high[0] < 0 ? null : low.map((l, a) => [l, high[a]]);
}

// The box that panes show at first: the foreground of the image with a margin.
function headBox(shape, scene) {
  const box = boundingBox(scene.channels[0], shape) ?? shape.map((n) => [0, n - 1]);
  return box.map(([first, last], a) => {
    const margin = Math.round(0.04 * (last - first + 1)) + 1;
    return [Math.max(0, first - margin), Math.min(shape[a] - 1, last + margin)];
  });
}

// Initial voxel of the crosshair: the slices with the most labelled voxels of the first layer, else the centre of the head.
function startVoxel(shape, scene) {
  const layer = Object.values(scene.layers)[0], [ni, nj, nk] = shape;
  const counts = shape.map((n) => new Uint32Array(n));
  for (let k = 0, at = 0; layer && k < nk; k++) for (let j = 0; j < nj; j++) for (let i = 0; i < ni; i++, at++) {
    if (layer[at]) { counts[0][i]++; counts[1][j]++; counts[2][k]++; }
  }
  const fullest = counts.map((count) => count.reduce((best, n, at) => (n > count[best] ? at : best), 0));
  return counts[0][fullest[0]] ? fullest : headBox(shape, scene).map(([first, last]) => (first + last) >> 1);
}
