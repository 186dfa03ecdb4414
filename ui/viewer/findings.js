// What is wrong with a prediction, as cards below the panes: regions of errors, and lesions of classes that have several.
// A card or a key moves the crosshair there. The list is fetched after the volumes; it hides what the legend hides.

const FINDINGS_PAUSE_MS = 400; // between a change of case or view and its search or new pictures
const SORTINGS = [["volume", "largest first"], ["depth", "deepest first"]];
const LESION_KINDS = [["missed", "missed"], ["false", "false"], ["detected", "detected"]];

class Findings {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "findings");
    this.root.hidden = true;
    this.bar = element("div", "bar");
    this.cards = element("div", "cards");
    this.status = text("span", "", "caption");
    this.status.setAttribute("role", "status");
    this.fillBar = oneTabStop(this.bar, "List of errors"); // two stops of the Tab key: a region that scrolls needs one
    this.fillCards = oneTabStop(this.cards, "Regions of errors");
    this.spoken = text("span", "", "unseen");
    this.spoken.setAttribute("role", "status");
    this.root.append(this.bar, this.status, this.cards, this.spoken);
    this.thumbnails = new Thumbnails(viewer);
    this.shown = new Map(); // canvas of each card that is in view -> its finding
    this.observer = new IntersectionObserver((entries) => this.seen(entries), { root: this.cards, rootMargin: "0px 120px" });
    this.key = (event) => this.pressed(event);
    window.addEventListener("keydown", this.key);
    Object.assign(this, { url: "", tab: "errors", sorting: "volume", border: false, kind: "missed", place: null, list: [] });
  }

  close() {
    window.removeEventListener("keydown", this.key);
    this.observer.disconnect();
    clearTimeout(this.timer);
    this.forgetPictures();
    this.url = "";
  }

  // ---- data -----------------------------------------------------------------------------------------------------

  async show(url) {
    if (url === this.url) return;
    Object.assign(this, { url, data: null, place: null, tab: "errors", list: [] });
    this.root.hidden = !url;
    this.cards.replaceChildren();
    this.forgetPictures();
    if (!url) return;
    this.fillBar(this.bar);
    this.status.textContent = "Looking for errors";
    await new Promise((resolve) => setTimeout(resolve, FINDINGS_PAUSE_MS)); // a case that is passed by is not searched
    if (url !== this.url) return;
    try {
      const response = await fetch(url, { credentials: "same-origin" });
      if (!response.ok) throw new Error((await response.text()).trim() || `The server refused the list of errors (${response.status}).`);
      const data = await response.json();
      if (url !== this.url) return;
      this.data = data;
      this.build();
      if (this.viewer.scene.streamed) this.viewer.legend.errors.build(); // it has volumes now
      this.viewer.requestRender();
    } catch (error) {
      if (url !== this.url) return;
      this.status.textContent = error instanceof TypeError ? "The server does not answer." : error.message;
      this.fillBar(this.bar, button("Try again", () => { this.url = ""; this.show(url); }));
    }
  }

  // The legend has changed: other errors are shown, in other colours.
  invalidate() {
    const { hidden, hiddenErrors, onlyPair } = this.viewer.settings, legend = JSON.stringify([[...hidden], [...hiddenErrors], onlyPair]);
    if (this.data && legend !== this.legend) this.build();
    this.legend = legend;
  }

  // The list, and how much is not in it.
  regions() {
    const { errors } = this.viewer, found = this.border ? this.data.with_border : this.data.errors;
    const isShown = ({ confused }) => confused.some(([truth, prediction]) => errors.shows(truth, prediction));
    const list = found.regions.filter(isShown), depth = (region) => region.depth_mm ?? Infinity;
    if (this.sorting === "depth") list.sort((a, b) => depth(b) - depth(a) || b.volume_ml - a.volume_ml);
    const hidden = found.regions.length - list.length, words = [`${count(list.length, "region")} of errors`];
    if (this.border && list.length) words.push("border errors connect them");
    if (hidden) words.push(`${hidden} hidden by the legend`);
    if (found.others) words.push(`${count(found.others, "smaller one")} with ${millilitres(found.others_ml)} not listed`);
    if (!this.border && found.border_ml) words.push(`${millilitres(found.border_ml)} of errors one voxel deep along borders not listed`);
    return { list, words };
  }

  lesions() {
    const { classes, shownClasses } = this.viewer, list = [], words = [];
    for (const [name, score] of Object.entries(this.data.lesions)) {
      const index = classes.findIndex((c) => c.name === name) + 1;
      if (!shownClasses[index]) continue;
      const total = score.detected.count + score.missed.count, sizes = score.by_size.map((size) => `${sizeName(size)}: ${size.detected} of ${size.lesions}`);
      words.push(`${name}: ${score.detected.count} of ${count(total, "lesion")} detected, ${score.false.count} false, mean Dice of lesions ${score.mean_dice?.toFixed(3) ?? "–"}; by size ${sizes.join(", ")}`);
      list.push(...score[this.kind].largest.map((lesion) => ({ ...lesion, name })));
    }
    const order = this.kind === "detected" ? (a, b) => a.dice - b.dice : (a, b) => b.volume_ml - a.volume_ml;
    return { list: list.sort(order), words };
  }

  // ---- elements -------------------------------------------------------------------------------------------------

  build() {
    const lesions = Object.keys(this.data.lesions).length > 0, onErrors = this.tab === "errors";
    const { list, words } = onErrors ? this.regions() : this.lesions(), parts = [];
    const choice = (title, choices, name) => switchGroup(title, choices, () => this[name], (value) => { this[name] = value; this.place = null; this.build(); });
    if (lesions) parts.push(choice("Findings", [["errors", "errors"], ["lesions", "lesions"]], "tab"));
    if (onErrors) parts.push(choice("Order", SORTINGS, "sorting"), choice("Border errors", [[false, "deeper than one voxel"], [true, "all"]], "border"));
    else parts.push(choice("Lesions", LESION_KINDS, "kind"));
    const steps = element("span", "steps");
    this.counter = text("span", "", "caption");
    steps.append(this.step("◂", "Previous error (Shift + E)", -1), this.counter, this.step("▸", "Next error (E)", 1));
    parts.push(steps);
    for (const part of parts) part.refresh?.();
    const kept = this.list[this.place]?.centre.join();
    this.list = list;
    const again = kept === undefined ? -1 : list.findIndex(({ centre }) => centre.join() === kept);
    this.place = again < 0 ? null : again;
    this.status.textContent = words.join(" · ");
    this.observer.disconnect();
    this.forgetPictures();
    const cards = list.map((finding, n) => this.card(finding, n));
    this.fillBar(this.bar, ...parts);
    this.fillCards(this.cards, ...(cards.length ? cards : [text("span", onErrors ? "Nothing to list: no error is deeper than one voxel, or the legend hides it." : `No lesion is ${this.kind}.`, "none")]));
    this.cards.setAttribute("aria-label", onErrors ? "Regions of errors" : "Lesions");
    for (const card of cards) this.observer.observe(card);
    this.mark();
  }

  step(sign, title, by) {
    const b = button(sign, () => this.go(by));
    b.className = "icon";
    b.title = title;
    b.setAttribute("aria-label", title);
    return b;
  }

  card(finding, number) {
    const lines = this.linesOf(finding), b = element("button", "card"), canvas = element("canvas");
    b.type = "button";
    b.dataset.number = String(number);
    b.setAttribute("aria-label", `${number + 1} of ${this.list.length}: ${lines.join(", ")}`);
    const words = element("span", "words");
    words.append(...lines.map((line, n) => text(n ? "span" : "b", line)));
    b.title = lines.join(", ");
    b.append(canvas, words);
    b.addEventListener("click", () => this.select(number));
    return b;
  }

  linesOf(finding) {
    const { viewer } = this;
    if (!finding.confused) { // a lesion
      const score = this.kind === "detected" ? `Dice ${finding.dice.toFixed(3)}` : this.kind;
      return [millilitres(finding.volume_ml), score, finding.name];
    }
    const [[truth, prediction], ...more] = finding.confused;
    const depth = finding.depth_mm === null ? "class is not in the other" : `${finding.depth_mm.toFixed(1)} mm deep`;
    return [millilitres(finding.volume_ml), depth, viewer.errors.pairName(truth, prediction) + (more.length ? ` (+${more.length})` : "")];
  }

  // ---- moving ---------------------------------------------------------------------------------------------------

  go(by) {
    const { length } = this.list;
    if (!length) return;
    this.select(this.place === null ? (by > 0 ? 0 : length - 1) : (this.place + by + length) % length);
  }

  select(number) {
    const { viewer } = this, finding = this.list[number];
    this.place = number;
    viewer.voxel = [...finding.centre];
    viewer.keepInView();
    viewer.crosshairMoved();
    this.mark();
    const card = this.cards.children[number];
    this.cards.scrollLeft = card.offsetLeft - this.cards.offsetLeft - (this.cards.clientWidth - card.offsetWidth) / 2;
    this.spoken.textContent = card.getAttribute("aria-label");
  }

  // The selected card, and its number.
  mark() {
    for (const card of this.cards.querySelectorAll(".card")) card.setAttribute("aria-pressed", String(Number(card.dataset.number) === this.place));
    this.counter.textContent = `${this.place === null ? "–" : this.place + 1} / ${this.list.length}`;
    this.root.dataset.selected = this.place ?? "";
  }

  pressed(event) {
    const target = event.composedPath()[0];
    if (event.key.toLowerCase() !== "e" || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (!this.data || target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && target.type !== "range") return;
    event.preventDefault();
    this.go(event.shiftKey ? -1 : 1);
    if (document.activeElement === document.body) this.viewer.focusPane(); // so that the keys of a pane work from here on
  }

  // ---- pictures -------------------------------------------------------------------------------------------------

  seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const canvas = target.querySelector("canvas"), finding = this.list[Number(target.dataset.number)];
      if (!isIntersecting) {
        this.shown.delete(canvas);
        this.thumbnails.forget(canvas);
      } else if (finding && !this.shown.has(canvas)) {
        this.shown.set(canvas, finding);
        this.picture(canvas, finding);
      }
    }
  }

  forgetPictures() {
    for (const canvas of this.shown.keys()) this.thumbnails.forget(canvas);
    this.shown.clear();
  }

  picture(canvas, finding) {
    this.thumbnails.render(canvas, finding.centre, finding.first && [finding.first, finding.last]);
  }

  // After a change of plane, window or modality the cards in view get new pictures.
  render() {
    const { active, revision, arrivals } = this.viewer, now = `${active} ${revision - arrivals}`;
    if (!this.data || now === this.pictured) return;
    const first = this.pictured === undefined;
    this.pictured = now;
    clearTimeout(this.timer);
    if (!first) this.timer = setTimeout(() => { for (const [canvas, finding] of this.shown) this.picture(canvas, finding); }, FINDINGS_PAUSE_MS);
  }
}

function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// Limits of a size class as text.
function sizeName({ low_ml, high_ml }) {
  if (!low_ml) return `below ${high_ml} ml`;
  return high_ml === null ? `from ${low_ml} ml` : `${low_ml} to ${high_ml} ml`;
}
