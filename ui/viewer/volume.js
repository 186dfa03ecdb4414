// Fetches volumes and caches the most recent ones, so that returning to a case is immediate.

const CACHE_BYTES = 400e6, MIN_CACHED = 4;
const COMPUTED_LATER = 202, COMPUTE_AGAIN_MS = 700; // status of the answer, and when it is asked for again
const SMALL_BYTES = 4e6; // arrives at once: no progress
const cache = new Map(); // URL -> { promise, bytes }, least recently used first

function fetchVolume(url, bytes, report) {
  let entry = cache.get(url);
  if (entry) {
    cache.delete(url);
  } else {
    entry = { promise: load(url, bytes, report), bytes: 0 };
    entry.promise.then(
      (buffer) => { entry.bytes = buffer.byteLength; evict(); },
      () => cache.delete(url), // the next call tries again
    );
  }
  cache.set(url, entry);
  return entry.promise;
}

// The volume, whose size is known: it is in memory once.
async function load(url, bytes, report) {
  const incomplete = new Error("The volume is incomplete: load the page again.");
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin" });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (response.status === 404) throw new Error("The volume is no longer available: load the page again.");
  if (!response.ok) throw new Error((await response.text()).trim() || `The server refused the volume (${response.status}).`);
  if (bytes <= SMALL_BYTES) {
    const buffer = await response.arrayBuffer();
    if (buffer.byteLength !== bytes) throw incomplete;
    return buffer;
  }
  const values = new Uint8Array(bytes), reader = response.body.getReader();
  let filled = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (filled + part.value.length > bytes) throw incomplete;
    values.set(part.value, filled);
    filled += part.value.length;
    report(filled / bytes);
  }
  if (filled !== bytes) throw incomplete;
  return values.buffer;
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

// All volumes of a scene. Panes read slices: image(channel, view, slice) and layer(name, view, slice) give { values,
// layout }, or null while they are fetched; imageAt(channel, voxel) and layerAt(name, voxel) give a stored value. Heat
// layers are fetched when they are first shown. open(url) gives a promise of { slice(view, slice), at(voxel) } of a further
// volume of one byte a voxel. slices(channel, names, view, slice) gives a promise of a slice of the image and of layers, which
// are kept nowhere.
// `report` is called with what is going on, `arrived` when slices have come that were not there.
async function fetchScene(data, report, arrived) {
  if (data.streamed) return fetchStreamedScene(data, report, arrived);
  const { shape } = data.grid, voxels = voxelCount(data.grid), names = Object.keys(data.layers);
  let end = Math.ceil((voxels * 2 * data.channels.length) / 4) * 4; // of what is read
  const starts = data.channels.map(({ levels }) => { end += 4 * levels; return end - 4 * levels; });
  const progress = (share) => report(`Loading the volume: ${Math.round(100 * share)} %`);
  const [image, ...buffers] = await Promise.all([
    fetchVolume(data.image, end, progress), ...names.map((name) => fetchVolume(data.layers[name], voxels, () => {})),
  ]);
  const channels = data.channels.map(({ levels }, n) => ({
    stored: new Uint16Array(image, n * voxels * 2, voxels),
    levels: levels ? new Float32Array(image, starts[n], levels) : null,
  }));
  const layers = Object.fromEntries(names.map((name, n) => [name, new Uint8Array(buffers[n])]));
  const index = ([i, j, k]) => i + shape[0] * (j + shape[1] * k);
  const open = async (url) => {
    const values = new Uint8Array(await fetchVolume(url, voxels, () => {}));
    return { slice: (view, slice) => ({ values, layout: sliceLayout(view, shape, slice) }), at: (voxel) => values[index(voxel)] };
  };
  const heat = new HeatLayers(data.heat, async ({ url, computed }, report) => {
    if (computed) await untilComputed(url, report);
    return open(url);
  }, arrived);
  return {
    channels, layers, heat, open,
    problem: () => heat.failed,
    image: (channel, view, slice) => ({ values: channels[channel].stored, layout: sliceLayout(view, shape, slice) }),
    layer: (name, view, slice) => ({ values: layers[name], layout: sliceLayout(view, shape, slice) }),
    imageAt: (channel, voxel) => channels[channel].stored[index(voxel)],
    layerAt: (name, voxel) => layers[name][index(voxel)],
    slices: async (channel, names, view, slice) => [channels[channel].stored, ...names.map((name) => layers[name])].map((values) => ({ values, layout: sliceLayout(view, shape, slice) })),
    fullest: () => fullestSlices(shape, layers),
  };
}

// Ask for a volume that is computed until it is there, or no longer wanted; `report` is called with the share that is done.
async function untilComputed(url, report, isWanted = () => true) {
  while (isWanted()) {
    const answer = await ask(`${url}?state`);
    if (answer.status !== COMPUTED_LATER) return;
    report((await answer.json()).progress);
    await new Promise((resolve) => setTimeout(resolve, COMPUTE_AGAIN_MS));
  }
}

function voxelCount(grid) {
  return grid.shape.reduce((a, b) => a * b, 1);
}

// Intensity of a stored value.
function intensity(channel, levels, stored) {
  return levels ? levels[Math.min(stored, levels.length - 1)] : channel.offset + stored * channel.step;
}

// Whether a stored value is one of the two to which an image that is not exact is clipped.
function isEnd(stored) {
  return stored <= 0 || stored >= 65535;
}

// Intensities of a voxel in channels whose stored values are rounded, from the server: { channel: intensity }.
async function fetchIntensities(data, [i, j, k]) {
  const [, nj, nk] = data.grid.shape, at = (i * nj + j) * nk + k;
  const rounded = data.channels.flatMap((c, n) => (c.exact ? [] : [n]));
  const numbers = rounded.map((n) => n * voxelCount(data.grid) + at);
  const response = await fetch(`${data.intensities}?at=${numbers.join(",")}`, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`The server refused an intensity (${response.status}).`);
  const values = new Float32Array(await response.arrayBuffer());
  return Object.fromEntries(rounded.map((n, m) => [n, values[m]]));
}

// Bounding box of the voxels unlike the background: [first, last] along each axis; null if there are none.
function boundingBox(values, [ni, nj, nk], background = 0) {
  const low = [ni, nj, nk], high = [-1, -1, -1];
  for (let k = 0, row = 0; k < nk; k++) for (let j = 0; j < nj; j++, row += ni) {
    let first = 0, last = ni - 1;
    while (first < ni && values[row + first] === background) first++;
    if (first === ni) continue;
    while (values[row + last] === background) last--;
    if (first < low[0]) low[0] = first;
    if (last > high[0]) high[0] = last;
    if (j < low[1]) low[1] = j;
    if (j > high[1]) high[1] = j;
    if (k < low[2]) low[2] = k;
    high[2] = k;
  }
  return high[0] < 0 ? null : low.map((l, a) => [l, high[a]]);
}

// The whole grid as a box.
function gridBox(shape) {
  return shape.map((n) => [0, n - 1]);
}

// The box that panes show at first: what any modality shows and any layer labels, with a margin.
function contentBox({ grid, channels }, scene) {
  const { shape } = grid, boxes = scene.content ? [scene.content] : [
    ...scene.channels.map(({ stored }, n) => boundingBox(stored, shape, channels[n].stored_background)),
    ...Object.values(scene.layers).map((layer) => boundingBox(layer, shape)),
  ].filter((box) => box);
  if (!boxes.length) return gridBox(shape);
  return shape.map((n, a) => {
    const first = Math.min(...boxes.map((box) => box[a][0])), last = Math.max(...boxes.map((box) => box[a][1]));
    const margin = Math.round(0.04 * (last - first + 1)) + 1;
    return [Math.max(0, first - margin), Math.min(n - 1, last + margin)];
  });
}

// The slices with the most labelled voxels of the first layer that has any; null if none has.
function fullestSlices(shape, layers) {
  const [ni, nj, nk] = shape;
  for (const layer of Object.values(layers)) {
    const counts = shape.map((n) => new Uint32Array(n));
    for (let k = 0, at = 0; k < nk; k++) for (let j = 0; j < nj; j++) for (let i = 0; i < ni; i++, at++) {
      if (layer[at] && layer[at] !== IGNORED) { counts[0][i]++; counts[1][j]++; counts[2][k]++; }
    }
    const fullest = counts.map((count) => count.reduce((best, n, at) => (n > count[best] ? at : best), 0));
    if (counts[0][fullest[0]]) return fullest;
  }
  return null;
}
