// Numeric helpers of the chart: smoothing, scales, ticks, and values and times as text.

// Three decimals, small values with three significant digits: a value that is not zero never appears as zero.
function number(v) {
  if (v === undefined || v === null) return "–";
  const size = Math.abs(v);
  if (!size || (size >= 0.1 && size < 100)) return v.toFixed(3);
  if (size >= 100) return v.toLocaleString("en", { maximumFractionDigits: 1 });
  return size >= 1e-4 ? v.toPrecision(3) : v.toExponential(2);
}

function emptyText(info) {
  if (!info) return "";
  const reason = {
    queued: "queued",
    starting: info.what || "starting",
    running: info.what || "the first epoch is not complete",
    stopping: "stopping",
  }[info.state];
  return reason ? `Waiting for the first values: ${reason}` : "No values: the run ended before the first measurement.";
}

function extent(lists) {
  let low = Infinity, high = -Infinity;
  for (const list of lists) for (const v of list) { if (v < low) low = v; if (v > high) high = v; }
  return low > high ? [0, 1] : [low, high];
}

// Local linear regression with Gaussian weights: no lag on a rising curve, no bias at the ends.
function smoothed(values) {
  const width = Math.max(1.5, values.length / 60), reach = Math.ceil(width * 2.5), weights = [];
  for (let d = 0; d <= reach; d++) weights.push(Math.exp(-0.5 * (d / width) ** 2));
  return values.map((own, i) => {
    if (own === null) return null;
    let n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (let j = Math.max(0, i - reach); j <= Math.min(values.length - 1, i + reach); j++) {
      if (values[j] === null) continue;
      const w = weights[Math.abs(j - i)], x = j - i, y = values[j];
      n += w; sx += w * x; sy += w * y; sxx += w * x * x; sxy += w * x * y;
    }
    const spread = n * sxx - sx * sx;
    return spread > 1e-9 ? (sy * sxx - sx * sxy) / spread : sy / n;
  });
}

// Index of the value in a sorted list that is nearest to a value; -1 if the list is empty.
function nearest(list, value) {
  let low = 0, high = list.length - 1;
  if (high < 0) return -1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle; else high = middle;
  }
  return Math.abs(list[low] - value) <= Math.abs(list[high] - value) ? low : high;
}

// A function from values to pixels, linear or logarithmic.
function scale([v0, v1], [p0, p1], log) {
  const place = log ? Math.log10 : (v) => v, first = place(v0), span = place(v1) - first || 1;
  return (v) => p0 + ((place(v) - first) / span) * (p1 - p0);
}

function niceTicks(low, high, count) {
  const rough = (high - low) / Math.max(2, count), power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough), ticks = [];
  for (let v = Math.ceil(low / size) * size; v <= high + size / 1e6; v += size) ticks.push(Math.abs(v) < size / 1e6 ? 0 : v);
  return ticks;
}

// Ticks of a logarithmic axis: 1, 2 and 5 times the powers of ten, or the powers alone where those are too many; linear
// ticks where fewer than two are in sight.
function logTicks(low, high, count) {
  const inside = (steps) => {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) ticks.push(...steps.map((s) => s * 10 ** e));
    return ticks.filter((v) => v >= low && v <= high);
  };
  const fine = inside([1, 2, 5]), powers = inside([1]);
  if (fine.length < 2) return niceTicks(low, high, count).filter((v) => v > 0);
  if (fine.length <= count + 1) return fine;
  const every = Math.max(1, Math.ceil(powers.length / Math.max(2, count)));
  return powers.filter((_, i) => i % every === 0);
}

function xTicks(low, high, axis, count) {
  if (axis !== "time") {
    const ticks = niceTicks(low, high, count), whole = ticks.filter((v) => Number.isInteger(Math.round(v * 1e6) / 1e6));
    return (whole.length > 1 ? whole : ticks).map((at) => ({ at, text: at.toLocaleString("en") }));
  }
  const sizes = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 604800];
  const size = sizes.find((s) => s >= (high - low) / Math.max(2, count)) ?? 2419200, ticks = [];
  for (let v = Math.ceil(low / size) * size; v <= high; v += size) ticks.push({ at: v, text: clock(v) });
  return ticks;
}

function clock(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return s % 60 ? `${m} min ${s % 60} s` : `${m} min`;
  return m % 60 ? `${Math.floor(m / 60)} h ${m % 60} min` : `${Math.floor(m / 60)} h`;
}

function tickText(v) {
  const size = Math.abs(v);
  if (size >= 1e5 || (size && size < 1e-3)) return String(v.toExponential(3)).replace(/\.?0*e/, "e");
  return size >= 100 ? v.toFixed(0) : String(Number(v.toPrecision(6)));
}
