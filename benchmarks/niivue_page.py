"""A page of NiiVue over HTTP, to compare the viewer with: an image and two label maps over it in three planes.

NiiVue is not part of the requirements: ``npm install --prefix DIR @niivue/niivue@0.69.0`` makes a folder with it.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

BUNDLE = Path("node_modules/@niivue/niivue/dist/index.js")
PAGE = """<!doctype html>
<style>html, body, canvas { margin: 0; width: 100%; height: 100%; display: block; background: black }</style>
<canvas id="view"></canvas>
<script type="module">
import { Niivue, SHOW_RENDER, SLICE_TYPE } from "./niivue.js";
const viewer = new Niivue({ sliceType: SLICE_TYPE.MULTIPLANAR, multiplanarShowRender: SHOW_RENDER.NEVER });
await viewer.attachToCanvas(document.getElementById("view"));
await viewer.loadVolumes([
  { url: "image.nii.gz" },
  { url: "label.nii.gz", colormap: "green", opacity: 0.5 },
  { url: "label.nii.gz", colormap: "red", opacity: 0.5 },
]);
viewer.drawScene();
window.viewer = viewer;
</script>
"""
READY = "() => window.viewer?.volumes.length === 3"
# The slices of the three planes added up, of which the wheel moves one; drawn within the handler of the event.
SLICE = "const [i, j, k] = viewer.frac2vox(viewer.scene.crosshairPos); return i + j + k;"
CANVAS = "return document.getElementById('view');"


def version(folder: Path) -> str:
    """The version of NiiVue in a folder that npm installed it in."""
    text = (folder / BUNDLE.parents[1] / "package.json").read_text()
    return str(json.loads(text)["version"])


class NiivueServer:
    """A server of the page on a free port.

    Parameters
    ----------
    niivue : Path. Folder that npm installed NiiVue in.
    image, label : Path. Files of the image and of its label map (NIfTI).
    folder : Path. New folder of the page and its files.
    """

    def __init__(self, niivue: Path, image: Path, label: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "index.html").write_text(PAGE)
        for source, name in ((niivue / BUNDLE, "niivue.js"), (image, "image.nii.gz"), (label, "label.nii.gz")):
            shutil.copyfile(source, folder / name)
        handler = functools.partial(_QuietHandler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/index.html"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed for a request."""
