// Full screen: the viewer takes the whole screen, or the whole window where the browser has no full screen.

class FullScreen {
  constructor(viewer) {
    this.viewer = viewer;
    this.changed = () => this.set(viewer.root.matches(":fullscreen"));
    this.escape = (event) => { if (event.key === "Escape" && this.fills) this.set(false); };
    document.addEventListener("fullscreenchange", this.changed);
    document.addEventListener("keydown", this.escape);
  }

  close() {
    document.removeEventListener("fullscreenchange", this.changed);
    document.removeEventListener("keydown", this.escape);
  }

  // Whether the viewer fills the window without the browser's full screen.
  get fills() {
    return this.viewer.full && !this.viewer.root.matches(":fullscreen");
  }

  async toggle() {
    const { root, full } = this.viewer;
    if (this.fills) return this.set(false);
    if (full) return document.exitFullscreen();
    try {
      await root.requestFullscreen();
    } catch {
      this.set(true);
    }
  }

  set(full) {
    const { viewer } = this;
    viewer.full = full;
    viewer.root.classList.toggle("full", full);
    viewer.toolbar.refresh();
    viewer.layout();
  }

  // Height that is left for the panes, in CSS pixels.
  get height() {
    const { root, place, surfaces } = this.viewer, style = getComputedStyle(root);
    const others = [...root.children].filter((child) => child !== place && !child.hidden);
    if (!place.classList.contains("beside") && !surfaces.root.hidden) others.push(surfaces.root);
    const taken = others.reduce((sum, child) => {
      const { marginTop, marginBottom } = getComputedStyle(child);
      return sum + child.offsetHeight + parseFloat(marginTop) + parseFloat(marginBottom);
    }, parseFloat(style.paddingTop) + parseFloat(style.paddingBottom));
    return Math.max(MIN_ROW, root.clientHeight - taken);
  }
}
