// Numeric helpers of the chart: smoothing, ticks, and values and times as text.

// Three decimals; a value that is not zero never appears as zero.
function number(v) {
  if (v === undefined || v === null) return "–";
  let digits = 3;
  while (v && digits < 12 && Math.abs(v) < 10 ** -digits) digits += 1;
  return v.toFixed(digits);
}

function emptyText(info) {
  if (!info) return "";
  const reason = {
    queued: "queued",
    starting: "starting",
    running: info.what || "the first epoch is not complete",
    stopping: "stopping",
  }[info.state];
  return reason ? `no points yet: ${reason}` : "no points: it ended before the first measurement";
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

function niceTicks(low, high, count) {
  const rough = (high - low) / Math.max(2, count), power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough), ticks = [];
  for (let v = Math.ceil(low / size) * size; v <= high + size / 1e6; v += size) ticks.push(Math.abs(v) < size / 1e6 ? 0 : v);
  return ticks;
}

function xTicks(low, high, axis, count) {
  if (axis !== "time") {
    const whole = niceTicks(low, high, count).filter((v) => Number.isInteger(Math.round(v * 1e6) / 1e6));
    return whole.map((at) => ({ at, text: at.toLocaleString("en") }));
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
  return Math.abs(v) >= 100 ? v.toFixed(0) : String(Math.round(v * 1e7) / 1e7);
}
