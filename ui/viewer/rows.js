// Which rows of panes a viewer shows: the image, a segmentation, errors, a map; and what they are called.

// Base class of Viewer (viewer.js).
class Rows extends Interaction {
  // Rows that can be shown, in their order.
  get possibleRows() {
    const errors = this.hasErrors ? ["errors", ...this.second.rows, COMPARE] : [];
    return ["image", ...Object.keys(this.scene.layers), ...errors, ...this.epochs.rows, ...this.scene.heat.layers.keys()];
  }

  toggleRow(row) {
    const order = this.possibleRows, now = this.rows;
    const next = now.includes(row) ? now.filter((r) => r !== row) : [...now, row];
    if (!next.length) return;
    this.rows = this.chosen.rows = next.sort((a, b) => order.indexOf(a) - order.indexOf(b));
    this.toolbar.build();
    this.legend.build();
    this.layout();
  }

  showOnly(row) {
    this.rows = this.chosen.rows = [row];
    this.toolbar.build();
    this.legend.build();
    this.layout();
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

  // What a pane shows, and what of it is hidden: a line each.
  titleLines(row) {
    if (row === "image") return [this.data.channels[this.settings.channel].name];
    const { hidden, overlayHidden } = this.settings, names = this.classes.map((c) => c.name).filter((name) => hidden.has(name));
    if (overlayHidden) return [`${row === COMPARE ? "reference and prediction" : layerTitle(row)} hidden`];
    if (row === COMPARE) return [this.compare.title, ...(names.length ? [`${names.join(", ")} hidden`] : [])];
    if (this.scene.heat.has(row)) return [row];
    const title = this.epochs.rows.includes(row) ? this.epochs.titleOf(row) : layerTitle(row), isErrors = comparedLayers(row)?.length === 2;
    const listed = names.length > 2 ? `${names.length} of ${this.classes.length} classes` : names.join(", ");
    return [title, ...(names.length ? [`${listed} hidden`] : []), ...(isErrors ? this.errors.hiddenLines : [])];
  }
}
