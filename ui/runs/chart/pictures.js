// The picture of each validation of a run: reference and prediction in one slice, with a slider over the epochs.

const FRAME_MS = 180; // per picture while they play
const PANELS = ["image", "reference", "prediction"]; // of a picture, side by side

class Pictures {
  // changed: called when another picture is shown.
  constructor(changed) {
    this.changed = changed;
    this.cache = new Map(); // Image by address
    this.pictures = [];
    this.index = -1;
    this.follows = true; // the newest picture
    this.root = element("div", "pictures");
    this.frames = element("div", "frames");
    this.canvases = PANELS.map((name) => {
      const figure = element("figure", name), canvas = element("canvas");
      canvas.setAttribute("role", "img");
      figure.append(canvas, element("figcaption", "", name));
      this.frames.append(figure);
      return canvas;
    });
    this.waiting = element("p", "waits", "The first picture appears with the first validation.");
    this.slider = element("input");
    Object.assign(this.slider, { type: "range", min: 0, step: 1 });
    this.slider.setAttribute("aria-label", "Epoch of the picture");
    this.slider.oninput = () => { this.stop(); this.choose(Number(this.slider.value)); };
    this.player = button("▶", () => (this.playing ? this.stop() : this.play()));
    this.player.className = "player";
    this.caption = element("span", "when");
    this.controls = element("div", "controls");
    this.controls.append(this.player, this.slider, this.caption);
    this.root.append(this.frames, this.waiting, this.controls);
    this.stop();
  }

  // Step of the validation whose picture is shown; null without one.
  get shownStep() { return this.root.hidden ? null : this.pictures[this.index]?.step ?? null; }

  show(source) {
    if (this.source !== source) {
      this.stop();
      Object.assign(this, { source, index: -1, follows: true });
      this.cache.clear();
    }
    const { info } = source, dice = source.series.get("val/dice_mean");
    this.pictures = (info?.pictures ?? []).map(([epoch, step, version]) => {
      const i = dice?.step.indexOf(step) ?? -1;
      return { epoch, step, dice: i < 0 ? null : dice.value[i], url: `${source.pictures}/${step}?version=${version}` };
    });
    const none = !this.pictures.length;
    this.root.hidden = none && !info?.active; // runs of earlier versions have no pictures
    this.frames.hidden = this.controls.hidden = none;
    this.waiting.hidden = !none;
    this.slider.max = Math.max(0, this.pictures.length - 1);
    this.controls.classList.toggle("single", this.pictures.length < 2);
    if (!none) this.choose(this.follows ? this.pictures.length - 1 : Math.min(this.index, this.pictures.length - 1), true);
  }

  // Show the picture of the validation nearest to a step.
  chooseStep(step) {
    if (this.pictures.length) { this.stop(); this.choose(nearest(this.pictures.map((p) => p.step), step)); }
  }

  choose(index, quietly = false) {
    this.index = index;
    this.follows = index === this.pictures.length - 1;
    const { epoch, step, dice } = this.pictures[index];
    const text = `epoch ${epoch} · step ${step.toLocaleString("en")}` + (dice === null ? "" : ` · Dice ${number(dice)}`);
    this.slider.value = index;
    this.slider.setAttribute("aria-valuetext", text);
    this.caption.textContent = text;
    this.root.dataset.epoch = epoch;
    this.render();
    if (!quietly) this.changed();
  }

  play() {
    this.playing = true;
    this.player.textContent = "❚❚";
    this.player.setAttribute("aria-label", "Pause");
    if (this.follows) this.choose(0);
    for (const { url } of this.pictures) this.load(url);
    const next = () => {
      if (!this.playing || this.follows) return this.stop();
      if (this.load(this.pictures[this.index + 1].url).complete) this.choose(this.index + 1);
      this.timer = setTimeout(next, FRAME_MS);
    };
    this.timer = setTimeout(next, FRAME_MS);
  }

  stop() {
    clearTimeout(this.timer);
    this.playing = false;
    this.player.textContent = "▶";
    this.player.setAttribute("aria-label", "Play the pictures of all validations");
  }

  load(url) {
    let image = this.cache.get(url);
    if (!image) {
      image = new Image();
      image.onload = () => { if (this.pictures[this.index]?.url === url) this.render(); };
      image.src = url;
      this.cache.set(url, image);
    }
    return image;
  }

  render() {
    const { url, epoch } = this.pictures[this.index], image = this.load(url);
    if (!image.complete || !image.naturalWidth) return; // the picture before stays until this one is there
    const width = Math.round(image.naturalWidth / PANELS.length), height = image.naturalHeight;
    this.canvases.forEach((canvas, n) => {
      canvas.width = width;
      canvas.height = height;
      canvas.getContext("2d").drawImage(image, n * width, 0, width, height, 0, 0, width, height);
      canvas.setAttribute("aria-label", `${PANELS[n]}, a slice of a held-out sub-volume, epoch ${epoch}`);
    });
    this.root.dataset.shown = epoch;
  }
}
