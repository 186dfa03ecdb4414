// Draws surfaces with WebGL 2: solid or translucent, in one colour or by signed distance, cut at the plane of a slice.

const SURFACE_VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in float distance;
uniform mat4 view; uniform vec3 toward;
out vec3 at; out float lit; out float away;
void main() {
  gl_Position = view * vec4(position, 1.0);
  at = position; lit = dot(normal, toward); away = distance;
}`;
const SURFACE_FRAGMENT = `#version 300 es
precision highp float;
in vec3 at; in float lit; in float away;
uniform vec4 colour; uniform vec4 cut; uniform vec3 inside; uniform vec3 middle; uniform vec3 outside; uniform vec3 none;
uniform float range; // of distances in their steps; 0 for one colour
out vec4 painted;
void main() {
  if (dot(at, cut.xyz) > cut.w) discard;
  vec3 base = colour.rgb;
  if (range > 0.0) {
    float share = clamp(away / range, -1.0, 1.0);
    base = away < -32000.0 ? none : mix(middle, share < 0.0 ? inside : outside, abs(share));
  }
  float light = gl_FrontFacing ? 0.35 + 0.65 * clamp(lit, 0.0, 1.0) : 0.3 + 0.2 * clamp(-lit, 0.0, 1.0);
  painted = vec4(base * light, colour.a);
}`;
const SLICE_VERTEX = `#version 300 es
in vec3 position; in vec2 place;
uniform mat4 view;
out vec2 pixel;
void main() { gl_Position = view * vec4(position, 1.0); pixel = place; }`;
const SLICE_FRAGMENT = `#version 300 es
precision highp float;
in vec2 pixel;
uniform sampler2D picture; uniform vec4 colour; uniform float textured;
out vec4 painted;
void main() { painted = textured > 0.5 ? vec4(texture(picture, pixel).rgb, colour.a) : colour; }`;

class SurfaceRenderer {
  // A renderer for a canvas; `available` tells whether the browser can draw on it.
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: true, preserveDrawingBuffer: true });
    this.buffers = new Map(); // surface -> what the graphics processor holds of it
    if (this.gl) this.prepare();
  }

  get available() {
    return Boolean(this.gl) && !this.gl.isContextLost();
  }

  prepare() {
    const { gl } = this;
    this.buffers.clear();
    this.surface = this.program(SURFACE_VERTEX, SURFACE_FRAGMENT, ["position", "normal", "distance"]);
    this.slice = this.program(SLICE_VERTEX, SLICE_FRAGMENT, ["position", "place"]);
    this.corners = gl.createBuffer();
    this.picture = gl.createTexture();
    this.pictured = "";
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.clearColor(0, 0, 0, 1);
  }

  program(vertex, fragment, attributes) {
    const { gl } = this, made = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    attributes.forEach((name, n) => gl.bindAttribLocation(made, n, name));
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(`The surfaces cannot be drawn: ${gl.getProgramInfoLog(made)}`);
    const uniforms = new Map();
    return { made, at: (name) => { if (!uniforms.has(name)) uniforms.set(name, gl.getUniformLocation(made, name)); return uniforms.get(name); } };
  }

  // The buffers of a surface, filled when it is drawn first.
  buffersOf(surface) {
    const { gl } = this, known = this.buffers.get(surface);
    if (known) return known;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const fill = (target, data) => { const made = gl.createBuffer(); gl.bindBuffer(target, made); gl.bufferData(target, data, gl.STATIC_DRAW); return made; };
    const made = [fill(gl.ARRAY_BUFFER, surface.positions)];
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    made.push(fill(gl.ARRAY_BUFFER, surface.normals));
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 3, gl.BYTE, true, 4, 0);
    if (surface.distances) {
      made.push(fill(gl.ARRAY_BUFFER, surface.distances));
      gl.enableVertexAttribArray(2);
      gl.vertexAttribPointer(2, 1, gl.SHORT, false, 0, 0);
    }
    made.push(fill(gl.ELEMENT_ARRAY_BUFFER, surface.indices));
    gl.bindVertexArray(null);
    const entry = { array, made, kind: surface.index_bytes === 2 ? gl.UNSIGNED_SHORT : gl.UNSIGNED_INT };
    this.buffers.set(surface, entry);
    return entry;
  }

  // Draw a picture of `width` by `height` CSS pixels. layers: [{ surface, colour, alpha, range }], range in mm or 0;
  // cut: { normal, offset } or null: what lies beyond is left away; slice: { corners, canvas, key } or null;
  // outline and cross: pairs of points in mm, the second in front of all.
  draw({ camera, width, height, layers, cut, slice, outline, cross, stepMm }) {
    const { gl } = this;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const view = camera.matrix(width, height), { at, made } = this.surface;
    gl.useProgram(made);
    gl.uniformMatrix4fv(at("view"), false, view);
    gl.uniform3fv(at("toward"), camera.axes.toward);
    gl.uniform4fv(at("cut"), cut ? [...cut.normal, cut.offset] : [0, 0, 0, 1]);
    for (const [name, colour] of [...["inside", "middle", "outside"].map((n, place) => [n, DISTANCE_COLOURS[place]]), ["none", NO_DISTANCE_COLOUR]]) gl.uniform3fv(at(name), unitColour(colour));
    for (const one of layers.filter(({ alpha }) => alpha === 1)) this.drawSurface(one, stepMm);
    if (slice) this.drawSlice(slice, view);
    gl.enable(gl.BLEND);
    gl.depthMask(false);
    gl.useProgram(made);
    for (const one of layers.filter(({ alpha }) => alpha < 1)) { // the sides that look away first
      gl.enable(gl.CULL_FACE);
      for (const face of [gl.FRONT, gl.BACK]) { gl.cullFace(face); this.drawSurface(one, stepMm); }
      gl.disable(gl.CULL_FACE);
    }
    gl.depthMask(true);
    gl.disable(gl.BLEND);
    this.drawLines(outline, view);
    gl.disable(gl.DEPTH_TEST);
    this.drawLines(cross, view);
    gl.enable(gl.DEPTH_TEST);
  }

  drawSurface({ surface, colour, alpha, range }, stepMm) {
    const { gl } = this, { array, kind } = this.buffersOf(surface), { at } = this.surface;
    gl.uniform4fv(at("colour"), [...unitColour(colour), alpha]);
    gl.uniform1f(at("range"), surface.distances ? range / stepMm : 0);
    gl.bindVertexArray(array);
    gl.drawElements(gl.TRIANGLES, surface.indices.length, kind, 0);
    gl.bindVertexArray(null);
  }

  // The slice of the image at its place.
  drawSlice({ corners, canvas, key }, view) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    if (key !== this.pictured) {
      this.pictured = key;
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, canvas);
      for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
      for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.LINEAR);
    }
    const [a, b, c, d] = corners;
    this.useSlice(view, [...a, 0, 0, ...b, 1, 0, ...d, 0, 1, ...c, 1, 1], [0, 0, 0, 1], 1);
    gl.enable(gl.POLYGON_OFFSET_FILL); // surfaces that lie in the slice stay in front of it
    gl.polygonOffset(1, 1);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.disable(gl.POLYGON_OFFSET_FILL);
  }

  drawLines(points, view) {
    if (!points.length) return;
    const { gl } = this;
    this.useSlice(view, points.flatMap((mm) => [...mm, 0, 0]), [1, 0.84, 0.4, 1], 0);
    gl.drawArrays(gl.LINES, 0, points.length);
  }

  useSlice(view, values, colour, textured) {
    const { gl } = this, { at, made } = this.slice;
    gl.useProgram(made);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corners);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.STREAM_DRAW);
    gl.disableVertexAttribArray(2);
    for (const [n, size, offset] of [[0, 3, 0], [1, 2, 12]]) {
      gl.enableVertexAttribArray(n);
      gl.vertexAttribPointer(n, size, gl.FLOAT, false, 20, offset);
    }
    gl.uniformMatrix4fv(at("view"), false, view);
    gl.uniform4fv(at("colour"), colour);
    gl.uniform1f(at("textured"), textured);
  }

  // Forget surfaces that are no longer shown.
  clear() {
    if (this.available) for (const { array, made } of this.buffers.values()) { this.gl.deleteVertexArray(array); made.forEach((one) => this.gl.deleteBuffer(one)); }
    this.buffers.clear();
  }

  close() {
    this.clear();
    this.gl?.getExtension("WEBGL_lose_context")?.loseContext(); // a browser has only a few of them
  }
}

// A colour "#rrggbb" as parts from 0 to 1.
function unitColour(colour) {
  return [1, 3, 5].map((p) => parseInt(colour.slice(p, p + 2), 16) / 255);
}
