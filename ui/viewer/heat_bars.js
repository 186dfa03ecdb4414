// Which heat layers are shown, and their colour bars. Beside its bar, a layer of a group is exchanged for another one.

class HeatBars {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "heat-bars");
    this.bars = new Map(); // by group and number in it, so that a choice keeps the focus
    this.last = new Map(); // group -> the layer that was shown last
  }

  // Show or hide the layer of a group that was shown last, at first its first.
  toggle(group) {
    const v = this.viewer, layers = v.scene.heat.ofGroup(group), shown = v.rows.find((row) => layers.includes(row));
    if (shown) this.last.set(group, shown);
    const last = this.last.get(group);
    v.toggleRow(shown ?? (layers.includes(last) ? last : layers[0]));
  }

  // The next layer, and none behind the last one; a step of -1 goes back.
  next(step) {
    const v = this.viewer, names = ["", ...v.scene.heat.layers.keys()], now = v.rows.find((row) => v.scene.heat.has(row)) ?? "";
    const next = names[(names.indexOf(now) + step + names.length) % names.length];
    if (now && next) v.replaceRow(now, next);
    else if (now || next) v.toggleRow(now || next);
  }

  refresh() {
    const v = this.viewer;
    if (!v.scene || !v.rows) return;
    const { heat } = v.scene, counts = new Map();
    const shown = v.settings.overlayHidden ? [] : v.rows.filter((row) => heat.has(row));
    const bars = shown.map((name) => {
      const group = heat.groupOf(name), number = counts.get(group) ?? 0, key = `${group} ${number}`;
      counts.set(group, number + 1);
      if (!this.bars.has(key)) this.bars.set(key, new HeatBar(v));
      this.bars.get(key).show(heat.layers.get(name));
      return this.bars.get(key).root;
    });
    this.root.hidden = !bars.length;
    const same = bars.length === this.root.childElementCount && bars.every((bar, n) => bar === this.root.children[n]);
    if (!same) this.root.replaceChildren(...bars);
  }
}

class HeatBar {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("span", "heat");
    this.title = element("span");
    this.select = element("select");
    this.select.addEventListener("change", () => viewer.replaceRow(this.layer.name, this.select.value));
    this.select.addEventListener("keydown", (event) => event.stopPropagation()); // letters are no shortcuts here
    this.bar = element("span", "heat");
    this.bar.setAttribute("role", "img");
    this.low = element("span");
    this.scale = element("i", "scale");
    this.high = element("span");
    this.bar.append(this.low, this.scale, this.high);
    this.status = element("span");
    this.status.setAttribute("role", "status");
    this.share = element("span");
    this.share.setAttribute("aria-hidden", "true"); // each step of it would be read out
    this.root.append(this.title, this.select, this.bar, this.status, this.share);
  }

  show(layer) {
    const v = this.viewer, { heat } = v.scene, { name, group, scale } = layer, [low, high] = heatEnds(scale), choices = heat.ofGroup(heat.groupOf(name));
    this.layer = layer;
    this.root.title = layer.help;
    this.title.textContent = choices.length > 1 ? group : name;
    this.select.hidden = choices.length < 2;
    this.select.setAttribute("aria-label", `Map of the ${group}`);
    if (String(choices) !== this.choices) {
      this.choices = String(choices);
      this.select.replaceChildren(...choices.map((choice) => {
        const option = text("option", heat.layers.get(choice).choice);
        option.value = choice;
        return option;
      }));
    }
    this.select.value = name;
    this.bar.setAttribute("aria-label", heatMeaning(name, scale));
    this.scale.style.background = `linear-gradient(90deg, ${heatStops(scale, v.heatAlpha).join(",")})`;
    this.low.textContent = low;
    this.high.textContent = high;
    const [doing, share = ""] = heat.isWaiting(name) ? heat.status(name).split(": ") : [""];
    if (this.status.textContent !== doing) this.status.textContent = doing;
    this.share.textContent = share;
  }
}
