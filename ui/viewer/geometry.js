// Geometry of slices: planes, mirroring, and coordinates. Volumes are in canonical (RAS) order: i to the right of the
// patient, j to the front, k up; i is contiguous in memory.

const PLANES = {
  axial: { axis: 2, across: 0, up: 1, letters: [["R", "L"], ["A", "P"]] },
  coronal: { axis: 1, across: 0, up: 2, letters: [["R", "L"], ["S", "I"]] },
  sagittal: { axis: 0, across: 1, up: 2, letters: [["A", "P"], ["S", "I"]] },
};

// How a plane is displayed. Radiological convention: the patient's right is on the left; the nose points left or up.
// A volume of unknown orientation is not mirrored.
function planeView(plane, grid, radiological) {
  const { axis, across, up, letters } = PLANES[plane];
  const oriented = grid.affine !== null;
  const mirrored = oriented && (plane === "sagittal" || radiological);
  let [[left, right], [top, bottom]] = letters;
  if (!mirrored) [left, right] = [right, left];
  return {
    plane, axis, across, up, mirrored,
    letters: oriented ? { left, right, top, bottom } : { left: "?", right: "?", top: "?", bottom: "?" },
    width: grid.shape[across], height: grid.shape[up], slices: grid.shape[axis],
    spacing: [grid.spacing_mm[across], grid.spacing_mm[up]],
  };
}

// Memory layout of a slice in screen order: pixel (x, y), top row first, is at offset + x * dx + y * dy.
function sliceLayout(view, shape, slice) {
  const strides = [1, shape[0], shape[0] * shape[1]];
  const sx = strides[view.across], sy = strides[view.up];
  return {
    offset: slice * strides[view.axis] + (view.mirrored ? (view.width - 1) * sx : 0) + (view.height - 1) * sy,
    dx: view.mirrored ? -sx : sx, dy: -sy, width: view.width, height: view.height,
  };
}

// From a position in a slice (pixels from its top left corner) to voxel coordinates along its two axes, where whole
// numbers are voxel centres.
function toVoxel(view, x, y) {
  return [view.mirrored ? view.width - 0.5 - x : x - 0.5, view.height - 0.5 - y];
}

function fromVoxel(view, voxel) {
  const a = voxel[view.across], b = voxel[view.up];
  return [view.mirrored ? view.width - 0.5 - a : a + 0.5, view.height - 0.5 - b];
}

// RAS coordinates of a voxel in mm; null if the orientation is unknown.
function voxelToMm(grid, voxel) {
  return grid.affine?.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]) ?? null;
}

// Voxel coordinates, not rounded, of a position in RAS mm.
function mmToVoxel(grid, mm) {
  const m = grid.affine.slice(0, 3), d = mm.map((n, row) => n - m[row][3]);
  const det = (a, b, c) => a[0] * (b[1] * c[2] - b[2] * c[1]) - b[0] * (a[1] * c[2] - a[2] * c[1]) + c[0] * (a[1] * b[2] - a[2] * b[1]);
  const columns = [0, 1, 2].map((c) => m.map((row) => row[c])), whole = det(...columns);
  return columns.map((_, n) => det(...columns.map((column, c) => (c === n ? d : column))) / whole); // Cramer's rule
}

// Index of a voxel in the array as its file stores it, from 0; and back.
function toFileIndex(grid, voxel) {
  return grid.file_axes.map(([axis, reversed]) => (reversed ? grid.shape[axis] - 1 - voxel[axis] : voxel[axis]));
}

function fromFileIndex(grid, index) {
  const voxel = [0, 0, 0];
  grid.file_axes.forEach(([axis, reversed], n) => { voxel[axis] = reversed ? grid.shape[axis] - 1 - index[n] : index[n]; });
  return voxel;
}

// Decimals of coordinates in mm with which neighbouring voxels differ; at least one.
function millimetreDigits(grid) {
  return clamp(Math.floor(1 - Math.log10(Math.min(...grid.spacing_mm))), 1, 6);
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
