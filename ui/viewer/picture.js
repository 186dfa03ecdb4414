// Saves the panes as they are on screen, with the legend of what they show, as a PNG file.

const LEGEND_HEIGHT = 26, BAR_WIDTH = 60;

async function savePicture(viewer) {
  const canvas = composePicture(viewer);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const link = element("a"), slice = viewer.voxel[viewer.views[viewer.active].axis] + 1;
  link.href = URL.createObjectURL(blob);
  link.download = `${viewer.data.name}-${viewer.active}-${slice}.png`.replace(/[^\p{L}\p{N}._-]+/gu, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// All panes in their places and a line of the visible classes, at the resolution of the screen.
function composePicture(viewer) {
  const stage = viewer.stage.getBoundingClientRect(), canvas = element("canvas"), ratio = viewer.panes[0].ratio;
  const boxes = viewer.panes.map((pane) => pane.canvas.getBoundingClientRect());
  const [left, top] = ["left", "top"].map((side) => Math.min(...boxes.map((box) => box[side])));
  const [right, bottom] = ["right", "bottom"].map((side) => Math.max(...boxes.map((box) => box[side])));
  const marks = legendOf(viewer), height = bottom - top + (marks.length ? LEGEND_HEIGHT : 0);
  canvas.width = Math.round((right - left) * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  viewer.panes.forEach((pane, n) => context.drawImage(pane.canvas, Math.round((boxes[n].left - left) * ratio), Math.round((boxes[n].top - top) * ratio)));
  context.scale(ratio, ratio);
  context.font = `500 ${FONT_SIZE}px ${viewer.font}`;
  context.textBaseline = "middle";
  let x = 8;
  for (const { name, colours } of marks) {
    const wide = colours.length > 1 ? BAR_WIDTH : 10, fill = context.createLinearGradient(x, 0, x + wide, 0);
    colours.forEach((colour, n) => fill.addColorStop(n / Math.max(1, colours.length - 1), colour));
    context.fillStyle = fill;
    context.fillRect(x, height - LEGEND_HEIGHT / 2 - 5, wide, 10);
    context.fillStyle = TEXT;
    context.fillText(name, x + wide + 5, height - LEGEND_HEIGHT / 2);
    x += wide + context.measureText(name).width + 22;
  }
  return canvas;
}

// Names and colours of what the panes show.
function legendOf(viewer) {
  const { rows, settings, classes, ignore, scene } = viewer;
  if (settings.overlayHidden) return [];
  const layers = rows.some((row) => !viewer.isImage(row) && !scene.heat.has(row)), named = ignore ? [...classes, ignore] : classes;
  const marks = [
    ...(layers ? named.filter((c) => !settings.hidden.has(c.name)) : []),
    ...(rows.includes("errors") || rows.includes(SECOND_ERRORS) ? viewer.errors.marks : []),
    ...(rows.includes(CHANGES) ? CHANGE_KINDS : []),
  ].map(({ name, colour }) => ({ name, colours: [colour] }));
  const bars = [...scene.heat.layers.values()].filter(({ name }) => rows.includes(name)).map(({ name, scale }) => {
    return { name: `${name}, ${heatEnds(scale).join(" to ")}`, colours: heatStops(scale, viewer.heatAlpha) };
  });
  return [...marks, ...bars];
}
