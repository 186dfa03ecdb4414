// Large volumes: slabs of slices are fetched when they are looked at, and the neighbours of the slices that are shown.

const SLAB = 8; // slices that are fetched together
const STREAM_BYTES = 192e6; // of slabs that are kept; the least recently used are dropped
const MAX_FETCHED = 3, MAX_WAITING = 24; // slabs at a time; of those that wait, the oldest are dropped
const ASK_AGAIN_MS = 200, ASK_LAYER_AGAIN_MS = 700; // while a volume is prepared

// Fetches slabs of all volumes of a viewer: the one asked for last comes first.
class SlabQueue {
  constructor() {
    this.slabs = new Map(); // key -> slab, least recently used first
    this.bytes = 0;
    this.waiting = new Map(); // key -> what fetches it, in the order of the requests
    this.fetched = new Set();
    this.shown = new Set(); // keys of those that a pane lacks
    this.failed = null;
    this.arrived = () => {};
  }

  // A slab that is there, or null: then it is asked for.
  get(key, fetchSlab, isShown) {
    const slab = this.slabs.get(key);
    if (slab) {
      this.slabs.delete(key);
      this.slabs.set(key, slab);
      return slab;
    }
    if (isShown) this.shown.add(key);
    if (!this.fetched.has(key) && (isShown || !this.waiting.size)) {
      this.waiting.delete(key);
      this.waiting.set(key, fetchSlab);
      for (const old of [...this.waiting.keys()].slice(0, -MAX_WAITING)) this.waiting.delete(old);
      this.next();
    }
    return null;
  }

  async next() {
    if (this.fetched.size >= MAX_FETCHED || !this.waiting.size || this.failed) return;
    const [key, fetchSlab] = [...this.waiting].at(-1);
    this.waiting.delete(key);
    this.fetched.add(key);
    try {
      this.keep(key, await fetchSlab());
    } catch (error) {
      this.failed = error;
    }
    this.fetched.delete(key);
    if (this.shown.delete(key) || this.failed) this.arrived();
    this.next();
  }

  keep(key, slab) {
    this.slabs.set(key, slab);
    this.bytes += slab.values.byteLength;
    for (const [old, { values }] of this.slabs) {
      if (this.bytes <= STREAM_BYTES) break;
      this.slabs.delete(old);
      this.bytes -= values.byteLength;
    }
  }
}

// A channel of the image, or a segmentation.
class StreamedVolume {
  constructor(queue, url, channel, shape, Values) {
    Object.assign(this, { queue, url, channel, shape, Values, ready: false });
  }

  // The slab that holds a slice along an axis; null while it is fetched.
  slab(axis, slice, isShown) {
    if (!this.ready) return null;
    const first = Math.floor(slice / SLAB) * SLAB, count = Math.min(SLAB, this.shape[axis] - first);
    return this.queue.get(`${this.url} ${this.channel} ${axis} ${first}`, () => this.fetch(axis, first, count), isShown);
  }

  async fetch(axis, first, count) {
    const answer = await ask(`${this.url}?slab=${this.channel},${axis},${first},${count}`);
    const shape = this.shape.map((n, a) => (a === axis ? count : n));
    return { values: new this.Values(await answer.arrayBuffer()), shape, first };
  }

  // A single slice for a small picture, once the volume is prepared; the browser keeps it, the queue does not.
  async single(view, slice) {
    await this.prepared;
    const { values, shape } = await this.fetch(view.axis, slice, 1);
    return { values, layout: sliceLayout(view, shape, 0) };
  }

  // A slice of a pane; once it is there, its neighbours are fetched too.
  slice(view, slice) {
    const slab = this.slab(view.axis, slice, true);
    if (!slab) return null;
    for (const near of [slice - SLAB, slice + SLAB]) if (near >= 0 && near < view.slices) this.slab(view.axis, near, false);
    return { values: slab.values, layout: sliceLayout(view, slab.shape, slice - slab.first) };
  }

  // The value of a voxel, where a slab that is there holds it; else undefined.
  at(voxel) {
    for (const axis of [2, 1, 0]) {
      const first = Math.floor(voxel[axis] / SLAB) * SLAB, slab = this.queue.slabs.get(`${this.url} ${this.channel} ${axis} ${first}`);
      if (!slab) continue;
      const [i, j, k] = voxel.map((n, a) => (a === axis ? n - first : n));
      return slab.values[i + slab.shape[0] * (j + slab.shape[1] * k)];
    }
    return undefined;
  }
}

async function ask(url) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin" });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (!response.ok) throw new Error((await response.text()).trim() || `The server refused the volume (${response.status}).`);
  return response;
}

// What is known of a volume, once the server has prepared it.
async function fetchFacts(url, pauseMs, report) {
  for (;;) {
    const { facts, error, progress, preview } = await (await ask(url)).json();
    if (error) throw new Error(error);
    if (facts) return facts;
    report(progress, preview && { ...preview, url: `${url}?preview=1&slice=${preview.slice}` });
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

// A scene of streamed volumes. The image has to be prepared; segmentations may follow.
async function fetchStreamedScene(data, report, arrived) {
  const { shape } = data.grid, queue = new SlabQueue();
  const layers = Object.fromEntries(Object.entries(data.layers).map(([name, url]) => [name, new StreamedVolume(queue, url, 0, shape, Uint8Array)]));
  for (const layer of Object.values(layers)) {
    layer.prepared = fetchFacts(layer.url, ASK_LAYER_AGAIN_MS, () => {});
    layer.prepared.catch(() => {});
  }
  const { channels, content } = await fetchFacts(data.image, ASK_AGAIN_MS, (share, preview) => report(`Reading the volume: ${Math.round(100 * share)} %`, preview));
  await Promise.all(Object.values(layers).map(async (layer) => { // the fullest slice comes first, where it is known
    layer.fullest = (await ask(layer.url).then((answer) => answer.json(), () => ({}))).facts?.fullest;
  }));
  const images = channels.map((_, n) => new StreamedVolume(queue, data.image, n, shape, Uint16Array));
  const open = async (url, report = () => {}) => {
    const volume = new StreamedVolume(queue, url, 0, shape, Uint8Array);
    await fetchFacts(url, ASK_LAYER_AGAIN_MS, report);
    volume.ready = true;
    return volume;
  };
  const heat = new HeatLayers(data.heat, ({ url, computed }, report) => open(url, computed ? report : undefined), () => queue.arrived());
  const described = { channels, intensities: channels.every((c) => c.exact) ? "" : data.intensities };
  const scene = {
    streamed: true, shape, described, layers, heat, open, content: content ?? gridBox(shape),
    fullest: () => Object.values(layers).map((layer) => layer.fullest).find(Boolean) ?? null,
    problem: () => queue.failed ?? heat.failed,
    channels: images.map(() => ({ stored: new Uint16Array(0), levels: null })),
    image: (channel, view, slice) => images[channel].slice(view, slice),
    layer: (name, view, slice) => layers[name].slice(view, slice),
    imageAt: (channel, voxel) => images[channel].at(voxel),
    layerAt: (name, voxel) => layers[name].at(voxel),
    slices: (channel, names, view, slice) => Promise.all([images[channel], ...names.map((name) => layers[name])].map((volume) => volume.single(view, slice))),
  };
  images.forEach((image) => { image.ready = true; });
  queue.arrived = () => {
    queue.arrived = arrived;
    arrived();
    channels.forEach(async (_, n) => { // after the first slice
      const sample = await ask(`${data.image}?sample=${n}`).catch(() => null);
      if (!sample) return;
      scene.channels[n].stored = new Uint16Array(await sample.arrayBuffer());
      arrived(); // percentiles can be found
    });
  };
  Object.values(layers).forEach(async (layer) => {
    try {
      await layer.prepared;
      layer.ready = true;
    } catch (error) {
      queue.failed = error;
    }
    queue.arrived();
  });
  return scene;
}
