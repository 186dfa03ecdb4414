// Dice per slice along each axis as bars; a click or the arrow keys move to a slice.

const STRIP_HEIGHT = 54;

class Strip {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = element("div", "strip");
    this.charts = new Map(); // by plane
  }

  // The chart of a plane: its caption, and its canvas as a slider over the slices.
  chart(plane) {
    if (this.charts.has(plane)) return this.charts.get(plane);
    const root = element("div", "chart"), title = element("div", "caption"), canvas = element("canvas");
    Object.assign(canvas, { tabIndex: 0 });
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-label", `Dice per ${plane} slice`);
    canvas.setAttribute("aria-valuemin", "1");
    const goTo = (slice) => this.viewer.goTo(this.viewer.views[plane].axis, slice);
    const moveTo = (event) => {
      const box = canvas.getBoundingClientRect();
      goTo(Math.floor(((event.clientX - box.left) / box.width) * this.viewer.views[plane].slices));
    };
    let dragged = false;
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); dragged = true; moveTo(event); });
    canvas.addEventListener("pointermove", (event) => { if (dragged) moveTo(event); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { dragged = false; });
    canvas.addEventListener("keydown", (event) => {
      const { axis, slices } = this.viewer.views[plane], now = this.viewer.voxel[axis];
      const next = { ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now - 1, ArrowDown: now - 1, PageUp: now + 10, PageDown: now - 10, Home: 0, End: slices - 1 }[event.key];
      if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      goTo(next);
    });
    root.append(title, canvas);
    const made = { root, title, canvas };
    this.charts.set(plane, made);
    return made;
  }

  // What Dice is counted from: all voxels, or, for an image that is streamed, the counts that come with the findings.
  get source() {
    const { scene, findings } = this.viewer;
    return scene.streamed ? findings.data?.slices : scene;
  }

  // Count again where what is counted or the visible classes have changed.
  update() {
    const { scene, shownClasses } = this.viewer, shown = shownClasses.join(), { source } = this;
    if (this.counted === source && this.shown === shown) return;
    Object.assign(this, { counted: source, shown });
    if (scene.streamed) this.dice = source.map((classes, axis) => this.diceOfCounts(classes, scene.shape[axis]));
    else this.count();
    for (const chart of this.charts.values()) chart.signature = null;
  }

  // Mean Dice of each slice along an axis from the voxels of each class in it (core.evaluation.voxel_counts).
  diceOfCounts(classes, slices) {
    const total = new Float64Array(slices), scored = new Uint16Array(slices);
    for (const { index, first, labelled, shared } of classes) {
      if (!this.viewer.shownClasses[index]) continue;
      labelled.forEach((all, n) => {
        if (!all) return;
        total[first + n] += (2 * shared[n]) / all;
        scored[first + n]++;
      });
    }
    return Array.from(total, (sum, slice) => (scored[slice] ? sum / scored[slice] : null));
  }

  // Mean Dice of each slice along each axis, over the visible classes of truth or prediction in the slice.
  count() {
    const v = this.viewer, { truth, prediction } = v.scene.layers, [ni, nj, nk] = v.grid.shape, visible = v.shownClasses;
    const n = v.classes.length + 1, sizes = [ni, nj, nk];
    const both = sizes.map((s) => new Uint32Array(s * n)), sum = sizes.map((s) => new Uint32Array(s * n));
    for (let k = 0, at = 0; k < nk; k++) for (let j = 0; j < nj; j++) for (let i = 0; i < ni; i++, at++) {
      const t = visible[truth[at]], p = visible[prediction[at]];
      if ((!t && !p) || truth[at] === IGNORED) continue;
      sum[0][i * n + t]++; sum[1][j * n + t]++; sum[2][k * n + t]++;
      sum[0][i * n + p]++; sum[1][j * n + p]++; sum[2][k * n + p]++;
      if (t === p) { both[0][i * n + t]++; both[1][j * n + t]++; both[2][k * n + t]++; }
    }
    this.dice = sizes.map((s, axis) => Array.from({ length: s }, (_, slice) => {
      let total = 0, scored = 0;
      for (let c = 1; c < n; c++) {
        const all = sum[axis][slice * n + c];
        if (all) { total += (2 * both[axis][slice * n + c]) / all; scored++; }
      }
      return scored ? total / scored : null;
    }));
  }

  render() {
    const v = this.viewer, { planes } = v.data;
    this.root.hidden = !v.data.diceStrip || !v.hasErrors || !this.source;
    if (this.root.hidden) return;
    this.update();
    const charts = planes.map((plane) => this.chart(plane));
    if (charts.some(({ root }, n) => this.root.children[n] !== root)) this.root.replaceChildren(...charts.map(({ root }) => root));
    const context = [v.revision, v.style.primary, v.style.faint].join(" "); // with the slice, all that a chart shows
    charts.forEach((chart, n) => this.renderChart(chart, planes[n], context));
  }

  renderChart(chart, plane, context) {
    const v = this.viewer, view = v.views[plane], dice = this.dice[view.axis], now = v.voxel[view.axis], { canvas } = chart;
    const width = chart.root.clientWidth, signature = `${context} ${now} ${width} ${screenRatio()}`;
    if (signature === chart.signature) return;
    chart.signature = signature;
    this.paint(canvas, width, dice, now);
    const value = dice[now], score = value === null ? "no label" : value > 0 && value < 0.001 ? value.toFixed(5) : value.toFixed(3);
    chart.title.textContent = `Dice per ${plane} slice · ${now + 1}: ${score}`;
    canvas.title = "mean over the visible classes; a click moves to a slice";
    canvas.setAttribute("aria-valuemax", String(view.slices));
    canvas.setAttribute("aria-valuenow", String(now + 1));
    canvas.setAttribute("aria-valuetext", `slice ${now + 1} of ${view.slices}, Dice ${score}`);
  }

  paint(canvas, width, dice, now) {
    const { style } = this.viewer, ratio = screenRatio(), step = width / dice.length;
    canvas.style.height = `${STRIP_HEIGHT}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(STRIP_HEIGHT * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.strokeStyle = style.border;
    context.lineWidth = 1;
    for (const level of [0, 0.5, 1]) {
      const y = Math.round(2 + (1 - level) * (STRIP_HEIGHT - 4)) + 0.5;
      context.beginPath(); context.moveTo(0, y); context.lineTo(width, y); context.stroke();
    }
    dice.forEach((value, slice) => {
      if (value === null) return;
      const height = Math.max(1.5, value * (STRIP_HEIGHT - 4));
      context.fillStyle = slice === now ? style.primary : style.faint;
      context.fillRect(slice * step, STRIP_HEIGHT - 2 - height, Math.max(1, step - (step > 3 ? 1 : 0)), height);
    });
    context.strokeStyle = style.primary;
    context.lineWidth = 1.5;
    context.beginPath(); context.moveTo((now + 0.5) * step, 0); context.lineTo((now + 0.5) * step, STRIP_HEIGHT); context.stroke();
  }
}
