// Surfaces as the server sends them (core/evaluation/surface_file.py), the camera that looks at them, and what a ray hits.
// Coordinates are in mm: RAS, or along the voxel axes where the orientation is unknown.

const SURFACE_MAGIC = "SEGSURF1", NO_DISTANCE = -32768, POSITION_STEPS = 65535;
const QUARTER = Math.PI / 2, TURN = Math.PI / 18, MAX_SURFACE_ZOOM = 40;
const LEAST_SEEN = 0.2, OBLIQUE = Math.PI / 6; // sine of the angle at which a plane is seen as such; turn to a view that shows it
// Yaw and pitch of the camera: from the front, the patient's right is on the left.
const SURFACE_VIEWS = [["front", 0, 0], ["back", Math.PI, 0], ["left", -QUARTER, 0], ["right", QUARTER, 0], ["above", Math.PI, QUARTER], ["below", Math.PI, -QUARTER]];

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

// The structures and surfaces in a buffer; each surface with its vertices in mm, unit normals and distances.
function decodeSurfaces(buffer) {
  const bytes = new Uint8Array(buffer), words = new TextDecoder();
  if (words.decode(bytes.subarray(0, SURFACE_MAGIC.length)) !== SURFACE_MAGIC) throw new Error("These surfaces are of another version: load the page again.");
  const start = SURFACE_MAGIC.length + 4, length = new DataView(buffer).getUint32(SURFACE_MAGIC.length, true);
  const header = JSON.parse(words.decode(bytes.subarray(start, start + length))), first = start + length;
  const surfaces = header.surfaces.map((one) => {
    const stored = new Uint16Array(buffer, first + one.positions, 3 * one.vertices);
    const Indices = one.index_bytes === 2 ? Uint16Array : Uint32Array, indices = new Indices(buffer, first + one.indices, 3 * one.faces);
    const positions = Float32Array.from(stored, (n, at) => one.low[at % 3] + (n / POSITION_STEPS) * one.size[at % 3]);
    const distances = one.distances === null ? null : new Int16Array(buffer, first + one.distances, one.vertices);
    return { ...one, positions, indices, distances, normals: vertexNormals(positions, indices) };
  });
  return { ...header, surfaces };
}

// Unit normals at the vertices, as bytes in groups of four.
function vertexNormals(positions, indices) {
  const sums = new Float32Array(positions.length), normals = new Int8Array((positions.length / 3) * 4);
  for (let f = 0; f < indices.length; f += 3) {
    const [a, b, c] = [3 * indices[f], 3 * indices[f + 1], 3 * indices[f + 2]];
    const ux = positions[b] - positions[a], uy = positions[b + 1] - positions[a + 1], uz = positions[b + 2] - positions[a + 2];
    const vx = positions[c] - positions[a], vy = positions[c + 1] - positions[a + 1], vz = positions[c + 2] - positions[a + 2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    for (const at of [a, b, c]) { sums[at] += x; sums[at + 1] += y; sums[at + 2] += z; }
  }
  for (let p = 0, n = 0; p < sums.length; p += 3, n += 4) {
    const scale = 127 / (Math.hypot(sums[p], sums[p + 1], sums[p + 2]) || 1);
    for (let axis = 0; axis < 3; axis++) normals[n + axis] = Math.round(sums[p + axis] * scale);
  }
  return normals;
}

// Position in mm of voxel coordinates, and back, also where the orientation is unknown.
function surfaceToMm(grid, voxel) {
  return voxelToMm(grid, voxel) ?? voxel.map((n, axis) => n * grid.spacing_mm[axis]);
}

function surfaceToVoxel(grid, mm) {
  return grid.affine ? mmToVoxel(grid, mm) : mm.map((n, axis) => n / grid.spacing_mm[axis]);
}

// The rectangle of a slice: its corners in mm around it, and a unit vector across that points along the axis of the slices.
function sliceRectangle(grid, plane, voxel) {
  const { axis, across, up } = PLANES[plane];
  const corner = (a, b) => {
    const at = [...voxel];
    at[across] = a ? grid.shape[across] - 0.5 : -0.5;
    at[up] = b ? grid.shape[up] - 0.5 : -0.5;
    return surfaceToMm(grid, at);
  };
  const corners = [corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)];
  const side = (n) => corners[n].map((value, i) => value - corners[0][i]), normal = cross(side(1), side(3));
  const ahead = surfaceToMm(grid, voxel.map((n, a) => n + (a === axis ? 1 : 0))).map((n, i) => n - surfaceToMm(grid, voxel)[i]);
  const length = Math.hypot(...normal) * Math.sign(dot(normal, ahead));
  return { corners, normal: normal.map((n) => n / length) };
}

// Looks at a centre from far away, in parallel projection. Superior is up.
class SurfaceCamera {
  constructor() {
    Object.assign(this, { centre: [0, 0, 0], radius: 1, reach: 1 });
    this.reset();
  }

  // Look at surfaces as a whole, and at other points in mm that are drawn too.
  frame(surfaces, others) {
    const corners = surfaces.flatMap(({ low, size }) => [low, low.map((n, axis) => n + size[axis])]);
    const end = (pick) => [0, 1, 2].map((axis) => Math[pick](...corners.map((corner) => corner[axis])));
    const low = end("min"), high = end("max"), centre = low.map((n, axis) => (n + high[axis]) / 2);
    let farthest = 1e-6;
    for (const { positions } of surfaces) {
      for (let p = 0; p < positions.length; p += 3) farthest = Math.max(farthest, (positions[p] - centre[0]) ** 2 + (positions[p + 1] - centre[1]) ** 2 + (positions[p + 2] - centre[2]) ** 2);
    }
    this.centre = centre;
    this.radius = Math.sqrt(farthest);
    this.reach = Math.max(this.radius, ...others.map((mm) => Math.hypot(...mm.map((n, axis) => n - centre[axis]))));
    this.shift = [0, 0];
  }

  reset() {
    Object.assign(this, { zoom: 1, shift: [0, 0] });
    this.look("front");
  }

  look(name) {
    const [, yaw, pitch] = SURFACE_VIEWS.find(([view]) => view === name);
    Object.assign(this, { yaw, pitch });
  }

  // The view that it looks from, if it is one of those that have a name.
  get view() {
    const same = (a, b) => Math.abs(Math.sin((a - b) / 2)) < 1e-6;
    return SURFACE_VIEWS.find(([, yaw, pitch]) => same(yaw, this.yaw) && same(pitch, this.pitch))?.[0] ?? "";
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = clamp(this.pitch + pitch, -QUARTER, QUARTER);
  }

  // Turn where it looks along a plane, of which it would see a line only.
  turnFrom(normal) {
    if (Math.abs(dot(normal, this.axes.toward)) < LEAST_SEEN) this.turn(OBLIQUE, this.pitch > 0 ? -OBLIQUE : OBLIQUE);
  }

  zoomBy(factor) {
    this.zoom = clamp(this.zoom * factor, 0.5, MAX_SURFACE_ZOOM);
  }

  // Unit vectors to the right and up on screen and towards the viewer.
  get axes() {
    const { yaw, pitch } = this, toward = [Math.sin(yaw) * Math.cos(pitch), Math.cos(yaw) * Math.cos(pitch), Math.sin(pitch)];
    const right = [-Math.cos(yaw), Math.sin(yaw), 0];
    return { right, up: cross(toward, right), toward };
  }

  // CSS pixels per mm on a canvas.
  scale(width, height) {
    return (Math.min(width, height) / (2.1 * this.radius)) * this.zoom;
  }

  // Clip coordinates from mm, column by column.
  matrix(width, height) {
    const { right, up, toward } = this.axes, s = this.scale(width, height), depth = 1 / (1.05 * this.reach);
    const rows = [[right, (2 * s) / width, this.shift[0]], [up, (2 * s) / height, this.shift[1]], [toward, -depth, 0]];
    const far = rows.map(([axis, factor, moved]) => [...axis.map((n) => n * factor), factor * (moved - dot(axis, this.centre))]);
    return new Float32Array([0, 1, 2, 3].flatMap((column) => [far[0][column], far[1][column], far[2][column], column === 3 ? 1 : 0]));
  }

  // The line of sight through a position on the canvas, from its centre, in CSS pixels: a point on it.
  through(x, y, width, height) {
    const { right, up } = this.axes, s = this.scale(width, height);
    const u = x / s - this.shift[0], v = -y / s - this.shift[1];
    return this.centre.map((n, axis) => n + u * right[axis] + v * up[axis]);
  }

  // Letters of the patient's sides at the edges of the canvas: left, right, top, bottom.
  letters(oriented) {
    if (!oriented) return ["?", "?", "?", "?"];
    const of = (axis) => ["LR", "PA", "IS"].map((pair, n) => [Math.abs(axis[n]), pair[axis[n] > 0 ? 1 : 0]]).filter(([size]) => size > 0.38).sort((a, b) => b[0] - a[0]).map(([, letter]) => letter).join("");
    const { right, up } = this.axes, back = (axis) => axis.map((n) => -n);
    return [of(back(right)), of(right), of(up), of(back(up))];
  }
}

// The point of surfaces that is nearest to the viewer along a line of sight: { surface, mm, vertex }, or null. `isCut(mm)`
// tells what is cut away. Faces that are seen from inside count too.
function hitSurface(surfaces, camera, point, isCut) {
  const { right, up, toward } = camera.axes, u0 = dot(point, right), v0 = dot(point, up);
  let best = null;
  for (const surface of surfaces) {
    const { positions, indices } = surface, count = positions.length / 3, u = new Float64Array(count), v = new Float64Array(count);
    for (let n = 0, p = 0; n < count; n++, p += 3) {
      u[n] = positions[p] * right[0] + positions[p + 1] * right[1] + positions[p + 2] * right[2] - u0;
      v[n] = positions[p] * up[0] + positions[p + 1] * up[1] + positions[p + 2] * up[2] - v0;
    }
    for (let f = 0; f < indices.length; f += 3) {
      const a = indices[f], b = indices[f + 1], c = indices[f + 2];
      const wa = u[b] * v[c] - u[c] * v[b], wb = u[c] * v[a] - u[a] * v[c], wc = u[a] * v[b] - u[b] * v[a], whole = wa + wb + wc;
      if (!whole || (whole > 0 ? Math.min(wa, wb, wc) < 0 : Math.max(wa, wb, wc) > 0)) continue;
      const mm = [0, 1, 2].map((axis) => (wa * positions[3 * a + axis] + wb * positions[3 * b + axis] + wc * positions[3 * c + axis]) / whole);
      const depth = dot(mm, toward);
      if ((best && depth <= best.depth) || isCut(mm)) continue;
      const weights = [[Math.abs(wa), a], [Math.abs(wb), b], [Math.abs(wc), c]];
      best = { surface, mm, depth, vertex: weights.reduce((x, y) => (y[0] > x[0] ? y : x))[1] };
    }
  }
  return best;
}

// Where a line of sight meets a rectangle of four corners: mm, or null.
function hitRectangle({ corners, normal }, camera, point) {
  const { toward } = camera.axes, slope = dot(toward, normal);
  if (Math.abs(slope) < 1e-6) return null;
  const t = dot(corners[0].map((n, axis) => n - point[axis]), normal) / slope, mm = point.map((n, axis) => n + t * toward[axis]);
  const sides = corners.map((corner, n) => dot(cross(corners[(n + 1) % 4].map((m, axis) => m - corner[axis]), mm.map((m, axis) => m - corner[axis])), normal));
  return sides.every((n) => n >= 0) || sides.every((n) => n <= 0) ? mm : null;
}

// Colour of a signed distance, [red, green, blue] from 0 to 255.
function distanceColour(mm, range) {
  const parts = (colour) => [1, 3, 5].map((p) => parseInt(colour.slice(p, p + 2), 16)), [inside, middle, outside] = DISTANCE_COLOURS.map(parts);
  const share = clamp(mm / range, -1, 1), end = share < 0 ? inside : outside;
  return middle.map((n, axis) => Math.round(n + Math.abs(share) * (end[axis] - n)));
}
