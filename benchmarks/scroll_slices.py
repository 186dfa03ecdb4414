"""Latency from a wheel or key event to new pixels: the Review page, NiiVue and a Streamlit slider in the same browser.

    python benchmarks/scroll_slices.py [--steps 12] [--rounds 5] [--niivue DIR] [--json]

Makes a volume of 256x192x144 voxels with a reference label map, trains a small network on it for a few epochs, keeps
its prediction, and opens Review with six panes and two overlays. The app to compare with has a slider in a fragment and
six pictures (``st.image``), or a single one; NiiVue (``--niivue``, see ``niivue_page.py``) shows three planes with two
overlays in a window of the same size. Steps alternate between the apps. Each step is an event of the browser's input
pipeline, timed in the page from the event's time stamp to the end of the frame that shows the slice. A slider has no
wheel, so keys are compared with keys, and wheels with wheels; browsers deliver wheel events later, in step with their
frames.

Then a sweep of 60 events at 60 per second, which a script in the page hands over, since a browser that is controlled
from outside takes an event only when the one before it is dealt with: one after each frame that is in time, two after
one that took twice as long, of which the first can no longer be drawn. It reports the rate that was reached, the slices
that were drawn, by how many frames the latest of them came after the first frame that could show it, and the bytes of
websockets and requests during the sweep and in the two seconds after it, in which the page reports the crosshair. The
goal: every slice drawn, at most one frame late. Needs Chromium (on the path, or named by ``CHROMIUM``) and playwright
of ``requirements-dev.txt``.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import niivue_page
from benchmarks.processes import StreamlitServer, chromium_path, run_command

SHAPE = (256, 192, 144)
SWEEP_HZ = 60
SWEEP_EVENTS = 60
BEFORE_REPORT_MS = 200  # after the last event, in which the viewer reports nothing yet
AFTER_MS = 2000  # in which it has reported the crosshair, and the page has run anew

SLIDER_APP = """
import numpy as np, streamlit as st
st.set_page_config(layout="wide")
volume, overlay = st.cache_resource(lambda: (np.load("{image}"), np.load("{label}")))()
colours = np.array([[0, 0, 0], [74, 144, 217], [31, 161, 135], [224, 176, 0]], np.uint8)

def picture(axis, at):
    grey, classes = (np.flipud(v.take(at, axis).T) for v in (volume, overlay))
    grey = np.repeat(grey[..., None], 3, axis=2)
    return np.where(classes[..., None] > 0, grey // 2 + colours[classes] // 2, grey)

@st.fragment
def look():
    k = st.slider("slice", 0, volume.shape[2] - 1, 72)
    planes = ((2, k), (1, 96), (0, 128))
    for row in range({rows}):  # truth, prediction
        for column, plane in zip(st.columns(3), planes[:{columns}]):
            column.image(picture(*plane), caption=str(k), width="stretch")

look()
"""

# In the page: record the time from an event to the frame that shows its slice; `now()` returns the slice on screen.
RECORD_TIMES = """
([kind, source]) => {
  const now = new Function(source);
  window.times = []; window.sweeping = false;
  for (const name of kind.split(" ")) addEventListener(name, (event) => {
    if (window.sweeping) return;
    const before = now(), at = event.timeStamp;
    const look = () => {
      const channel = new MessageChannel(); // its task runs when all of this frame's drawing is done
      channel.port1.onmessage = () => {
        if (now() !== before) window.times.push(performance.now() - at);
        else if (performance.now() - at < 5000) requestAnimationFrame(look);
      };
      channel.port2.postMessage(0);
    };
    requestAnimationFrame(look);
  }, { capture: true, passive: true });
}
"""
# In the page: hand over the events of a sweep; ends soon after the last of them. `swept` is the result, once the page
# has come to rest.
SWEEP = """
([source, target, kind, details, count, hz, soonMs, restMs]) => new Promise((soon) => {
  const now = new Function(source), element = new Function(target)(), first = now(), period = 1000 / hz;
  if (!element) throw new Error(`nothing to send events to: ${target}`);
  const due = [], shown = new Map(); // frame in which each slice could be drawn, and in which it was, by distance
  const Kind = kind === "wheel" ? WheelEvent : KeyboardEvent;
  const event = () => new Kind(kind, { bubbles: true, composed: true, cancelable: true, ...details });
  let frames = 0, started, ended;
  window.sweeping = true;
  window.swept = new Promise((done) => {
    const frame = (time) => {
      const channel = new MessageChannel(); // its task runs when all of this frame's drawing is done
      channel.port1.onmessage = () => {
        frames += 1;
        const distance = Math.abs(now() - first);
        if (!shown.has(distance)) shown.set(distance, frames);
        started ??= time;
        const wanted = Math.min(count, Math.floor((time - started) / period + 1.5));
        while (due.length < wanted) {
          element.dispatchEvent(event());
          due.push(frames + 1);
        }
        if (due.length === count) ended ??= time;
        if (ended !== undefined && time - ended >= soonMs) soon();
        if (ended === undefined || time - ended < restMs) return requestAnimationFrame(frame);
        window.sweeping = false;
        const late = due.map((n, index) => (shown.has(index + 1) ? shown.get(index + 1) - n : null));
        done({ seconds: (ended - started) / 1000, late });
      };
      channel.port2.postMessage(0);
    };
    requestAnimationFrame(frame);
  });
})
"""
FIND = (  # within shadow roots
    "const find = (root, selector) => root.querySelector(selector) ?? "
    "[...root.querySelectorAll('*')].map(e => e.shadowRoot && find(e.shadowRoot, selector)).find(Boolean);"
)
VIEWER_PANE = FIND + "return window.pane ??= find(document, 'canvas.pane');"
VIEWER_SLICE = FIND + "window.pane ??= find(document, 'canvas.pane'); return Number(window.pane.dataset.slice);"
SLIDER_THUMB = "return document.querySelector('[role=slider], input[type=range]');"
SLIDER_PICTURE = (
    "const picture = document.querySelector('[data-testid=stImage]'), image = picture.querySelector('img');"
    "if (image.complete) window.shown = Number(picture.textContent); return window.shown;"
)
WHEEL = {"deltaY": -100, "clientX": 300, "clientY": 250}  # of NiiVue in the axial plane
KEY = {"key": "ArrowRight", "code": "ArrowRight", "keyCode": 39}


@dataclass(frozen=True)
class Swept:
    """How an app takes a sweep: JavaScript that returns the slice on screen and the element that gets the events, the
    kind of these and their details."""

    source: str
    target: str
    kind: str
    details: dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="events of each round and app")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--niivue", type=Path, metavar="DIR", help="folder that npm installed NiiVue in")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = prepare(folder)
        servers: list[Any] = [StreamlitServer("app.py", folder)]
        for panes, (rows, columns) in {6: (2, 3), 1: (1, 1)}.items():
            app = folder / f"slider{panes}.py"
            names = {"image": folder / "image.npy", "label": folder / "label.npy"}
            app.write_text(SLIDER_APP.format(**names, rows=rows, columns=columns))
            servers.append(StreamlitServer(str(app), folder))
        if args.niivue:
            files = [folder / "data" / "big" / part / "big_0.nii.gz" for part in ("imagesTr", "labelsTr")]
            servers.append(niivue_page.NiivueServer(args.niivue, files[0], files[1], folder / "niivue"))
        try:
            review, six, single, *niivue = (server.url for server in servers)
            sliders = {"slider, six pictures": six, "slider, one picture": single}
            results = measure(f"{review}/review?model={run}&case=big_0", sliders, niivue, args)
        finally:
            for server in servers:
                server.stop()
    if args.niivue:
        results["niivue"] = niivue_page.version(args.niivue)
    report(results, args.json)
    return 0


def prepare(folder: Path) -> str:
    """Make the data set, a short run on it, and its prediction; returns the run's id."""
    import nibabel

    generator = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    radius = np.sqrt((grid**2).sum(0)) + 0.06 * np.sin(9 * grid[0]) * np.sin(8 * grid[1]) * np.sin(7 * grid[2])
    label = np.digitize(radius, [0.35, 0.6, 0.85]).astype(np.uint8)
    label = np.where(label == 3, 0, label + 1).astype(np.uint8)
    image = (label * 250 + generator.normal(0, 25, SHAPE)).astype(np.float32)
    image[label == 0] = 0
    data = folder / "data" / "big"
    training = []
    for n in range(2):  # one for training, one held out
        for part, array in (("imagesTr", image), ("labelsTr", label)):
            (data / part).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), data / part / f"big_{n}.nii.gz")
        training.append({"image": f"./imagesTr/big_{n}.nii.gz", "label": f"./labelsTr/big_{n}.nii.gz"})
    content = {
        "name": "Big",
        "modality": {"0": "M"},
        "training": training,
        "test": [],
        "labels": {"0": "background", "1": "inner", "2": "middle", "3": "outer"},
    }
    (data / "dataset.json").write_text(json.dumps(content))
    np.save(folder / "image.npy", (image / 4.5).clip(0, 255).astype(np.uint8))
    np.save(folder / "label.npy", label)
    checkpoints = str(folder / "checkpoints")
    options = {"--preset": "quick", "--channels": "8,16", "--epochs": "5", "--samples-train": "20"}
    options |= {"--val-subjects": "big_0", "--checkpoints": checkpoints}
    words = [word for option in options.items() for word in option]
    run_id = run_command("train", str(data), *words).splitlines()[0]
    run_command("evaluate", run_id, str(data), "--subject", "big_0", "--keep", "--checkpoints", checkpoints)
    return run_id


def measure(review: str, sliders: dict[str, str], niivue: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Time the steps of all apps; the arguments are the addresses of Review, of the sliders by name, and of NiiVue."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--headless", "--no-sandbox"])
        opened = [opening_time_s(browser, review) for _ in range(3)]
        viewer = browser.new_page(viewport={"width": 1440, "height": 1000})
        viewer.goto(review)
        viewer.locator("canvas.pane[data-at]").nth(2).wait_for()
        press(viewer, "Planes", "all")
        press(viewer, "Show", "errors")  # no row of errors
        viewer.locator("canvas.pane[data-at]").nth(5).wait_for()
        assert viewer.locator("canvas.pane").count() == 6
        viewer.evaluate(RECORD_TIMES, ["wheel keydown", VIEWER_SLICE])
        by_key, by_wheel = {}, {}
        for name, url in sliders.items():
            by_key[name] = page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.goto(url)
            page.locator("[data-testid=stImage] img").last.wait_for()
            page.evaluate(RECORD_TIMES, ["keydown", SLIDER_PICTURE])
        for url in niivue:
            by_wheel["NiiVue, wheel, three planes"] = page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.goto(url)
            page.wait_for_function(niivue_page.READY)
            page.evaluate(RECORD_TIMES, ["wheel", niivue_page.SLICE])
        times: dict[str, list[float]] = {}
        for _ in range(args.rounds):
            for style in ("fill", "both"):
                viewer.bring_to_front()
                press(viewer, "Overlay", style)
                viewer.locator("canvas.pane").first.focus()
                times.setdefault(f"viewer, key, {style}", []).extend(steps(viewer, args.steps, "ArrowUp", "ArrowDown"))
                viewer.locator("canvas.pane").first.hover()
                times.setdefault(f"viewer, wheel, {style}", []).extend(steps(viewer, args.steps, "", ""))
            for name, page in by_key.items():
                page.bring_to_front()
                page.get_by_role("slider").focus()
                times.setdefault(name, []).extend(steps(page, args.steps, "ArrowRight", "ArrowLeft"))
            for name, page in by_wheel.items():
                page.bring_to_front()
                page.mouse.move(300, 250)  # the axial plane
                times.setdefault(name, []).extend(steps(page, args.steps, "", ""))
        viewer.bring_to_front()
        viewer.locator("canvas.pane").first.hover()
        viewer.locator("canvas.pane").first.press("Home")
        viewer.wait_for_timeout(1000)  # until the position of the crosshair has been sent
        sweeps = {"viewer": sweep_through(viewer, Swept(VIEWER_SLICE, VIEWER_PANE, "wheel", WHEEL))}
        for name, page in by_key.items():
            page.bring_to_front()
            page.get_by_role("slider").press("Home")
            page.wait_for_timeout(1000)
            sweeps[name] = sweep_through(page, Swept(SLIDER_PICTURE, SLIDER_THUMB, "keydown", KEY))
        for name, page in by_wheel.items():
            page.bring_to_front()
            sweeps[name] = sweep_through(page, Swept(niivue_page.SLICE, niivue_page.CANVAS, "wheel", WHEEL))
        browser.close()
    return {"opened_s": opened, "times_ms": times, "sweeps": sweeps}


def press(page: Any, group: str, name: str) -> None:
    """Press a button of the viewer's toolbar, within its menu where it is in one."""
    hidden = {"exact": True, "include_hidden": True}
    button = page.get_by_role("group", name=group, **hidden).get_by_role("button", name=name, **hidden)
    menu = page.locator("details.menu").filter(has=button).locator("summary")
    in_menu = menu.count() > 0
    if in_menu:
        menu.click()
    button.click()
    if in_menu:
        menu.click()


def steps(page: Any, count: int, forward: str, back: str) -> list[float]:
    """Make as many steps forward as back, each after the previous one is on the screen: with keys, or with the wheel
    where no key is given. Returns their times in ms."""
    page.evaluate("times.length = 0")
    for n in range(count):
        is_forward = n < count // 2
        if forward:
            page.keyboard.press(forward if is_forward else back)
        else:
            page.mouse.wheel(0, -100 if is_forward else 100)
        page.wait_for_function("count => window.times.length >= count", arg=n + 1)
    times: list[float] = page.evaluate("times")
    return times


def opening_time_s(browser: Any, url: str) -> float:
    """Seconds from the request of the page to its three panes, in a browser context without a cache."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    started = time.monotonic()
    page.goto(url, wait_until="commit")
    page.locator("canvas.pane[data-at]").nth(2).wait_for()
    seconds = time.monotonic() - started
    context.close()
    return seconds


def sweep_through(page: Any, app: Swept) -> dict[str, Any]:
    """A sweep through an app: the rate of the events, the slices that were drawn, the frames by which the latest came
    late, and the bytes that were moved during the sweep and after it."""
    client = page.context.new_cdp_session(page)
    moved = [0]

    def count_frame(event: dict[str, Any]) -> None:
        frame = event["response"]
        is_binary = frame["opcode"] == 2  # in base64
        moved[0] += len(base64.b64decode(frame["payloadData"])) if is_binary else len(frame["payloadData"])

    def count_request(event: dict[str, Any]) -> None:
        moved[0] += int(event["encodedDataLength"])

    client.on("Network.webSocketFrameSent", count_frame)
    client.on("Network.webSocketFrameReceived", count_frame)
    client.on("Network.loadingFinished", count_request)
    client.send("Network.enable")
    details = [app.source, app.target, app.kind, app.details]
    page.evaluate(SWEEP, [*details, SWEEP_EVENTS, SWEEP_HZ, BEFORE_REPORT_MS, AFTER_MS])
    during = moved[0]
    swept = page.evaluate("swept")
    client.detach()
    late = [frames for frames in swept["late"] if frames is not None]
    return {
        "events": SWEEP_EVENTS,
        "events_per_s": (SWEEP_EVENTS - 1) / swept["seconds"],
        "slices_drawn": len(late),
        "at_most_one_frame_late": sum(frames <= 1 for frames in late),
        "frames_late_most": max(late, default=None),
        "bytes_during": during,
        "bytes_after": moved[0] - during,
    }


def report(results: dict[str, Any], as_json: bool) -> None:
    """Print the results."""
    import streamlit

    if as_json:
        print(json.dumps(results))
        return
    niivue = f", NiiVue {results['niivue']}" if "niivue" in results else ""
    print(f"{platform.machine()}, {os.cpu_count()} cores, streamlit {streamlit.__version__}{niivue}")
    p95 = {}
    for name, times in results["times_ms"].items():
        p95[name] = float(np.percentile(times, 95))
        print(f"{name}: median {statistics.median(times):.0f} ms, p95 {p95[name]:.0f} ms, n = {len(times)}")
    ratios = [f"{p95['viewer, key, fill'] / p95[name]:.2f} ({name})" for name in p95 if name.startswith("slider")]
    print(f"p95 of the viewer over that of the slider, keys both: {', '.join(ratios)}")
    for name in (n for n in p95 if n.startswith("NiiVue")):
        print(f"p95 of the viewer over that of {name}: {p95['viewer, wheel, fill'] / p95[name]:.2f} (wheels both)")
    for name, sweep in results["sweeps"].items():
        print(
            f"sweep, {name}: {sweep['events']} events, {sweep['events_per_s']:.1f} per second, {sweep['slices_drawn']} "
            f"slices drawn, {sweep['at_most_one_frame_late']} of them at most one frame late, the latest "
            f"{sweep['frames_late_most']}; {sweep['bytes_during']} bytes during the sweep, {sweep['bytes_after']} "
            "after it"
        )
    opened = ", ".join(f"{s:.2f}" for s in results["opened_s"])
    print(f"from opening Review to its panes: {opened} s (the first without prepared files)")


if __name__ == "__main__":
    sys.exit(main())
