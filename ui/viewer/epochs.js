// The segmentations of the case by the epochs that a run has kept: a slider chooses the one that is shown. Each is fetched
// when it is first shown; EPOCH and EPOCH_ERRORS are the rows of panes.

const EPOCH = "epoch", EPOCH_ERRORS = "epoch errors";
const EPOCH_MS = 600; // of each while they are played
const EPOCH_BYTES = 256e6, LEAST_EPOCHS = 4; // in memory

class Epochs {
  constructor(viewer) {
    this.viewer = viewer;
    this.layers = new Map(); // by URL: what the scene opened, null while it is fetched; the oldest first
    this.root = element("div", "epochs");
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Kept epochs");
    const shown = [[EPOCH, "epoch"], [EPOCH_ERRORS, "its errors"]];
    this.show = switchGroup("Show kept epochs", shown, () => viewer.rows, (row) => viewer.toggleRow(row), true);
    this.slider = rangeInput("Kept epoch", [0, 1, 1], 0, (n) => this.choose(n));
    this.slider.title = "keys , and . in a pane";
    this.title = text("span", "", "title");
    this.playButton = button("▶", () => this.toggle());
    this.playButton.className = "icon";
    this.playButton.title = "Play the epochs from the first to the last";
    this.playButton.setAttribute("aria-label", this.playButton.title);
    this.root.append("Epochs", this.show, this.slider, this.title, this.playButton);
    this.root.hidden = true;
  }

  get list() {
    return this.viewer.data?.epochs ?? [];
  }

  get rows() {
    return this.list.length ? [EPOCH, ...(this.viewer.scene.layers.truth ? [EPOCH_ERRORS] : [])] : [];
  }

  get isShown() {
    return this.rows.some((row) => this.viewer.rows.includes(row));
  }

  // Number of the epoch that is shown; the last one until another is chosen.
  get at() {
    const chosen = this.list.findIndex(({ name }) => name === this.viewer.settings.epoch);
    return chosen < 0 ? this.list.length - 1 : chosen;
  }

  titleOf(row) {
    const { name } = this.list[this.at];
    return row === EPOCH_ERRORS ? `errors, ${name}` : name;
  }

  choose(number) {
    const { viewer, list } = this;
    if (!list.length) return;
    viewer.settings.epoch = list[clamp(number, 0, list.length - 1)].name;
    if (!this.isShown) return viewer.toggleRow(EPOCH);
    this.refresh();
    viewer.requestRender(true);
  }

  step(direction) {
    this.stop();
    this.choose(this.at + direction);
  }

  toggle() {
    if (this.timer !== undefined) return this.stop();
    this.choose(this.at === this.list.length - 1 ? 0 : this.at);
    this.timer = setInterval(() => this.next(), EPOCH_MS);
    this.refresh();
  }

  // The next epoch, once the one that is shown is there.
  next() {
    if (this.at >= this.list.length - 1) return this.stop();
    if (this.isThere) this.choose(this.at + 1);
  }

  stop() {
    if (this.timer === undefined) return;
    clearInterval(this.timer);
    this.timer = undefined;
    this.refresh();
  }

  // The epoch that is shown; null while it is fetched.
  get layer() {
    const { scene } = this.viewer, { url } = this.list[this.at];
    if (scene !== this.scene) {
      if (scene.streamed || this.scene?.streamed) this.layers.clear(); // slices come through the scene
      this.scene = scene;
    }
    if (!this.layers.has(url)) this.fetch(url);
    return this.layers.get(url) ?? null;
  }

  // Whether all that panes show of the epoch is there.
  get isThere() {
    return Boolean(this.layer) && !this.viewer.panes.some((pane) => pane.waiting && this.rows.includes(pane.row));
  }

  slice(view, slice) {
    return this.layer?.slice(view, slice) ?? null;
  }

  // Class index of a voxel; undefined while it is fetched.
  voxel(voxel) {
    return this.layer?.at(voxel);
  }

  async fetch(url) {
    const { viewer, layers } = this, { scene } = viewer;
    layers.set(url, null);
    try {
      const layer = await scene.open(url);
      if (scene.streamed && scene !== this.scene) return;
      layers.set(url, layer);
    } catch (error) {
      if (viewer.closed || (scene.streamed && scene !== this.scene)) return;
      this.stop();
      return viewer.showNotice(error.message, () => { layers.delete(url); viewer.showNotice(""); viewer.requestRender(true); });
    }
    const most = scene.streamed ? Infinity : Math.max(LEAST_EPOCHS, Math.floor(EPOCH_BYTES / voxelCount(viewer.grid)));
    for (const old of layers.keys()) if (layers.size > most && old !== url) layers.delete(old);
    if (viewer.closed) return;
    const following = this.list[this.at + 1]?.url; // is there when it is asked for
    if (url === this.list[this.at]?.url && following && !layers.has(following)) this.fetch(following);
    viewer.requestRender(true);
  }

  build() {
    const { rows, list } = this;
    this.root.hidden = !rows.length;
    if (this.root.hidden) return this.stop();
    this.show.querySelector(`[data-value="${EPOCH_ERRORS}"]`).hidden = !rows.includes(EPOCH_ERRORS);
    this.slider.max = String(list.length - 1);
    this.refresh();
  }

  refresh() {
    if (this.root.hidden) return;
    const { name, dice } = this.list[this.at], title = dice === null ? name : `${name}, Dice ${dice.toFixed(3)}`;
    this.slider.value = String(this.at);
    this.slider.setAttribute("aria-valuetext", title);
    this.title.textContent = title;
    this.playButton.setAttribute("aria-pressed", String(this.timer !== undefined));
    this.show.refresh();
  }
}
