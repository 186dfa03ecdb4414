// Which rows of panes a viewer shows: the image, a segmentation, errors, a map; and what they are called.

// Base class of Viewer (viewer.js).
class Rows extends Interaction {
  // Rows that can be shown, in their order.
  get possibleRows() {
    const errors = this.hasErrors ? ["errors", ...this.second.rows, COMPARE] : [];
    return ["image", ...this.modalityRows, ...Object.keys(this.scene.layers), ...errors, ...this.epochs.rows, ...this.scene.heat.layers.keys()];
  }

  // Rows of single modalities.
  get modalityRows() {
    const { channels } = this.data;
    return channels.length > 1 ? channels.map(modalityRow) : [];
  }

  // Whether a row shows the image only.
  isImage(row) {
    return row === "image" || this.modalityRows.includes(row);
  }

  // Number of the modality that a row shows.
  channelOf(row) {
    const number = this.modalityRows.indexOf(row);
    return number < 0 ? this.settings.channel : number;
  }

  // Numbers of the modalities that are shown.
  get shownChannels() {
    return [...new Set(this.rows.map((row) => this.channelOf(row)))].sort((a, b) => a - b);
  }

  // Show all modalities at the same time, each without overlay; if they are shown, only the chosen one.
  toggleModalities() {
    const { modalityRows, rows, settings } = this, others = rows.filter((row) => !modalityRows.includes(row));
    const further = modalityRows.filter((_, number) => !rows.includes("image") || number !== settings.channel);
    if (further.some((row) => !rows.includes(row))) this.setRows([...others, ...further]);
    else if (further.length) this.setRows(others.length ? others : ["image"]);
  }

  toggleRow(row) {
    const now = this.rows, next = now.includes(row) ? now.filter((r) => r !== row) : [...now, row];
    if (next.length) this.setRows(next);
  }

  setRows(rows) {
    const order = this.possibleRows;
    this.rows = this.chosen.rows = rows.sort((a, b) => order.indexOf(a) - order.indexOf(b));
    this.toolbar.build();
    this.legend.build();
    this.windows.changed();
    this.layout();
  }

  showOnly(row) {
    this.setRows([row]);
  }

  // Show another heat layer in the place of one.
  replaceRow(row, next) {
    if (this.rows.includes(next)) return this.toggleRow(row);
    this.rows = this.chosen.rows = this.rows.map((one) => (one === row ? next : one));
    this.toolbar.refresh();
    this.legend.refresh();
    this.layout();
  }

  // A segmentation in the slice at the crosshair, as { values, layout }; null while it is fetched.
  layerSlice(name, view) {
    const slice = this.voxel[view.axis];
    return name === EPOCH ? this.epochs.slice(view, slice) : this.scene.layer(name, view, slice);
  }

  // Name of a class index at the crosshair.
  nameOf(index) {
    if (index === IGNORED && this.ignore) return `${this.ignore.name} (left out)`;
    return index ? (this.classes[index - 1]?.name ?? "?") : "background";
  }

  // What a layer or row is called.
  titleOf(name) {
    return this.data.titles[name] ?? layerTitle(name);
  }

  // What a pane shows, and what of it is hidden: a line each.
  titleLines(row) {
    if (this.isImage(row)) return [this.data.channels[this.channelOf(row)].name];
    const { hidden, overlayHidden } = this.settings, names = this.classes.map((c) => c.name).filter((name) => hidden.has(name));
    if (overlayHidden) return [`${row === COMPARE ? "reference and prediction" : this.titleOf(row)} hidden`];
    if (row === COMPARE) return [this.compare.title, ...(names.length ? [`${names.join(", ")} hidden`] : [])];
    if (this.scene.heat.has(row)) return [row];
    const title = this.epochs.rows.includes(row) ? this.epochs.titleOf(row) : this.titleOf(row), isErrors = comparedLayers(row)?.length === 2;
    const listed = names.length > 2 ? `${names.length} of ${this.classes.length} classes` : names.join(", ");
    return [title, ...(names.length ? [`${listed} hidden`] : []), ...(isErrors ? this.errors.hiddenLines : [])];
  }
}
