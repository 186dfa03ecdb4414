"""Frames per second while the surfaces of a case turn, by their number of triangles: what a browser turns fluently.

    python benchmarks/surface_turning.py [--faces 100000 300000 ...] [--frames 30] [--size 800 700] [--hardware]

Draws what Review draws, with its scripts (``ui/viewer/surface_*.js``), from a file of surfaces as the server sends it:
eight rugged surfaces, those of four classes in reference and prediction, the reference translucent over the prediction
as on the page, in the colours of the classes and then in those of distances. Each frame turns them a little; its time
is that from one frame to the next, all of its pixels being there. Chromium draws at most one frame in 16.7 ms.

The browser has no graphics processor here: it draws with SwiftShader, on the cores of the processor, which is far
slower than any graphics processor. ``--hardware`` draws with that of the machine. What has drawn is printed.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processes import ROOT, SOFTWARE_WEBGL, chromium_path
from benchmarks.result_file import machine_name
from core.colours import PALETTE
from core.evaluation.surface_file import encode
from core.evaluation.surface_meshes import (
    DISTANCE_COLOURS,
    NO_DISTANCE_COLOUR,
    RANGE_MM,
    SIDES,
    CaseSurfaces,
    Structure,
    Surface,
)
from core.imaging.mesh import Mesh

FACES = (100_000, 300_000, 600_000, 1_300_000)
CLASSES = 4
FLUENT_HZ = 24  # frames per second
SCRIPTS = ("geometry.js", "surface_scene.js", "surface_gl.js")
REFERENCE_ALPHA = {"classes": 0.3, "distances": 0.12}  # as in surfaces.js, by colouring
CONSTANTS = {"DISTANCE_COLOURS": DISTANCE_COLOURS, "NO_DISTANCE_COLOUR": NO_DISTANCE_COLOUR}
PAGE = "<!doctype html><style>body { margin: 0; background: black }</style><canvas></canvas><script>\n"
# In the page: turn the surfaces of a file; returns the times from frame to frame in ms, and what has drawn.
TURN = """
async ([content, width, height, frames, range, alpha]) => {
  const canvas = document.querySelector("canvas"), bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  Object.assign(canvas, { width, height });
  const data = decodeSurfaces(bytes.buffer), camera = new SurfaceCamera();
  const renderer = window.renderer ??= new SurfaceRenderer(canvas), { gl } = renderer;
  if (!renderer.available) throw new Error("this browser has no WebGL 2");
  renderer.clear();
  camera.frame(data.surfaces, []);
  const layers = data.surfaces.map((surface) => {
    const { colour } = data.structures[surface.structure], solid = surface.side === "prediction";
    return { surface, colour, alpha: solid ? 1 : alpha, range: solid ? range : 0 };
  });
  const pixel = new Uint8Array(4), times = [];
  let before;
  for (let n = -5; n < frames; n += 1) { // the first frames fill the buffers
    const time = await new Promise((done) => requestAnimationFrame(() => {
      camera.turn(0.02, 0);
      const scene = { layers, cut: null, slice: null, outline: [], cross: [], stepMm: data.step_mm };
      renderer.draw({ camera, width, height, ...scene });
      gl.readPixels(width / 2, height / 2, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel); // waits until all is drawn
      done(performance.now());
    }));
    if (n > 0) times.push(time - before);
    before = time;
  }
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const by = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "unknown";
  const faces = data.surfaces.reduce((sum, one) => sum + one.faces, 0);
  return { times, faces, by, drawn: pixel[0] + pixel[1] + pixel[2] > 0 };
}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, nargs="+", default=FACES, metavar="N", help="triangles of all surfaces")
    parser.add_argument("--frames", type=int, default=30, help="frames that are timed for each")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 700), metavar="N", help="pixels of the picture")
    parser.add_argument("--hardware", action="store_true", help="draw with the graphics processor of the machine")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    results = []
    for result in measure(args):
        results.append(result)
        if args.json:
            continue
        if len(results) == 1:
            print(f"{machine_name()}; {args.size[0]}x{args.size[1]} pixels, drawn by {result['by']}", flush=True)
        per_s = 1000 / result["median_ms"]
        words = "fluently" if per_s >= FLUENT_HZ else "not fluently"
        print(
            f"{result['faces']:,} triangles, {result['colouring']}: {per_s:.1f} frames per second (median "
            f"{result['median_ms']:.0f} ms, 95th percentile {result['p95_ms']:.0f} ms), {words}",
            flush=True,
        )
    if args.json:
        print(json.dumps(results))
    return 0


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Times of the frames for each number of triangles and each colouring."""
    from playwright.sync_api import sync_playwright

    flags = ["--headless", "--no-sandbox", *(() if args.hardware else SOFTWARE_WEBGL)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=flags)
        page = browser.new_page(viewport={"width": args.size[0], "height": args.size[1]})
        page.set_content(page_with_scripts())
        for faces in args.faces:
            content = base64.b64encode(encode(rugged_case(faces), "", b"")).decode("ascii")
            for colouring, range_mm in (("classes", 0), ("distances", RANGE_MM)):
                found = page.evaluate(TURN, [content, *args.size, args.frames, range_mm, REFERENCE_ALPHA[colouring]])
                if not found["drawn"]:
                    raise SystemExit(f"{faces} triangles: expected a picture, found a black one")
                yield {
                    "faces": found["faces"],
                    "colouring": colouring,
                    "median_ms": float(np.median(found["times"])),
                    "p95_ms": float(np.percentile(found["times"], 95)),
                    "frames": len(found["times"]),
                    "by": found["by"],
                }
        browser.close()


def page_with_scripts() -> str:
    """A page with the scripts that draw surfaces on Review."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in CONSTANTS.items())
    scripts = "\n".join((ROOT / "ui" / "viewer" / name).read_text("utf-8") for name in SCRIPTS)
    return f"{PAGE}{constants}{scripts}</script>"


def rugged_case(faces: int) -> CaseSurfaces:
    """Reference and prediction of nested rugged balls with so many triangles together, at random distances of up to a
    few millimetres."""
    rng = np.random.default_rng(0)
    structures = tuple(Structure(f"class {n + 1}", PALETTE[n], (n + 1,)) for n in range(CLASSES))
    surfaces = []
    for structure in range(CLASSES):
        for side in SIDES:
            mesh = rugged_ball(faces // (CLASSES * len(SIDES)), 70.0 - 14 * structure, rng)
            distance_mm = rng.normal(0, 1.5, len(mesh.vertices)).astype(np.float32)
            surfaces.append(Surface(structure, side, mesh, distance_mm, mesh.volume_mm3 / 1000))
    return CaseSurfaces(structures, tuple(surfaces), True, True)


def rugged_ball(faces: int, radius_mm: float, rng: np.random.Generator) -> Mesh:
    """A ball with folds, as of a brain, of about so many triangles: rings of vertices between two poles."""
    rings = max(3, round((faces / 4) ** 0.5))
    segments = max(3, round(faces / (2 * rings)))
    polar, around = np.meshgrid(
        np.pi * (np.arange(rings) + 1) / (rings + 1), 2 * np.pi * np.arange(segments) / segments, indexing="ij"
    )
    folds = np.sin(9 * polar + rng.uniform(0, 6)) * np.sin(8 * around + rng.uniform(0, 6)) * np.sin(polar)
    radius = radius_mm * (1 + 0.06 * folds + rng.normal(0, 0.004, polar.shape))
    unit = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1)
    poles = radius_mm * np.array([[0, 0, 1.0], [0, 0, -1.0]])
    vertices = np.concatenate([(radius[..., None] * unit).reshape(-1, 3), poles])
    at = np.arange(rings * segments).reshape(rings, segments)
    a, b, c, d = at[:-1], np.roll(at, -1, 1)[:-1], np.roll(at, -1, 1)[1:], at[1:]
    top, bottom = np.full(segments, rings * segments), np.full(segments, rings * segments + 1)
    parts = [
        np.stack([a, d, c], axis=-1),
        np.stack([a, c, b], axis=-1),
        np.stack([top, at[0], np.roll(at[0], -1)], axis=-1),
        np.stack([bottom, np.roll(at[-1], -1), at[-1]], axis=-1),
    ]
    return Mesh(vertices, np.concatenate([part.reshape(-1, 3) for part in parts]).astype(np.int32))


if __name__ == "__main__":
    sys.exit(main())
