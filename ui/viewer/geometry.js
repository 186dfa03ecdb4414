// Where voxels lie on the screen. Volumes come in canonical order: i to the right of the patient, j to the front, k up,
// the first axis fastest in memory.

const PLANES = {
  axial: { axis: 2, across: 0, up: 1, ends: [["R", "L"], ["A", "P"]] },
  coronal: { axis: 1, across: 0, up: 2, ends: [["R", "L"], ["S", "I"]] },
  sagittal: { axis: 0, across: 1, up: 2, ends: [["A", "P"], ["S", "I"]] },
};

// How a plane is laid on the screen. Radiological: the patient's right is on the left; the nose points left or up.
// Where the orientation is unknown nothing is mirrored.
function viewOf(plane, grid, radiological) {
  const { axis, across, up, ends } = PLANES[plane];
  const known = grid.affine !== null;
  const mirrored = known && (plane === "sagittal" || radiological);
  let [[left, right], [top, bottom]] = ends;
  if (!mirrored) [left, right] = [right, left];
  const letters = known ? { left, right, top, bottom } : { left: "?", right: "?", top: "?", bottom: "?" };
  return {
    plane, axis, across, up, mirrored, letters,
    width: grid.shape[across], height: grid.shape[up], slices: grid.shape[axis],
    spacing: [grid.spacing_mm[across], grid.spacing_mm[up]],
  };
}

// Memory offsets of a slice in screen order: the pixel (x, y), the top row first, is at start + x * dx + y * dy.
function walkOf(view, shape, slice) {
  const strides = [1, shape[0], shape[0] * shape[1]];
  const sx = strides[view.across], sy = strides[view.up];
  return {
    start: slice * strides[view.axis] + (view.mirrored ? (view.width - 1) * sx : 0) + (view.height - 1) * sy,
    dx: view.mirrored ? -sx : sx, dy: -sy, width: view.width, height: view.height,
  };
}

// From a position in a slice, in pixels with the origin at its top left corner, to voxel coordinates along its two
// axes (whole numbers at voxel centres), and back.
function toVoxel(view, x, y) {
  return [view.mirrored ? view.width - 0.5 - x : x - 0.5, view.height - 0.5 - y];
}

function fromVoxel(view, voxel) {
  const a = voxel[view.across], b = voxel[view.up];
  return [view.mirrored ? view.width - 0.5 - a : a + 0.5, view.height - 0.5 - b];
}

// Millimetres of a voxel, as x to the right, y to the front, z up.
function millimetres(grid, voxel) {
  return grid.affine?.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]) ?? null;
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
