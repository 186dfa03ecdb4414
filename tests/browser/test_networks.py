"""Networks in a real browser: chosen on Train, trained for a few steps, reviewed."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from core import runs
from core.models import MODELS, architecture, missing_packages
from core.presets import preset
from tests.browser.conftest import Server
from tests.support.background_jobs import poll
from tests.support.balls import write_balls
from tests.support.menus import choose_option
from tests.support.train_page import press_start
from tests.support.viewers import coloured_pixels, pane, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.long(30)]

MINUTE_MS = 60_000
# Two unlike each other: a run takes about ten seconds. Every network is trained by test_every_network.py, and here
# where the variable says so: SEGMENTARIUM_BROWSER_NETWORKS=all, or names separated by commas.
NETWORKS = ("hyperdensenet", "unet2d")
VARIABLE = "SEGMENTARIUM_BROWSER_NETWORKS"
WAITING = ("queued", "starting", "running", "stopping")
LOSSES = {"resnet3d_vae": "vae"}  # of networks that train with no other


def chosen_networks() -> tuple[str, ...]:
    text = os.environ.get(VARIABLE, "")
    if text == "all":
        return tuple(name for name, entry in MODELS.items() if not missing_packages(entry))
    return tuple(architecture(name).name for name in text.split(",")) if text else NETWORKS


FEW_STEPS = (
    "epochs~1~minutes~0~samples_train~2~samples_val~1~batch_size~1~sub_volume~16,16,16~whole_every~1~folds~3~"
    "device~cpu~threads~1"
)


@pytest.mark.parametrize("network", chosen_networks())
def test_network_is_chosen_trained_and_reviewed(server: Server, page: Page, network: str) -> None:
    data = server.data / "balls-networks"
    if not data.exists():
        write_balls(data, subjects=3)
    loss = f"~loss~{LOSSES[network]}" if network in LOSSES else ""
    page.goto(f"{server.url}/train?data=balls-networks&preset=quick&set={FEW_STEPS}{loss}")
    page.get_by_role("paragraph").filter(has_text=re.compile("^Network$")).click()
    choose_option(page.get_by_role("combobox", name="Network"), architecture(network).name)
    if network != preset("quick").model.model:  # the address has what was changed
        page.wait_for_url(re.compile(f"model~{network}"), timeout=MINUTE_MS)
    press_start(page)
    page.wait_for_url(re.compile("/runs.*run="), timeout=MINUTE_MS)
    run_id = parse_qs(urlsplit(page.url).query)["run"][0]
    assert runs.get_run(server.checkpoints, run_id).config.model.model == network
    ended = poll(lambda: runs.get_run(server.checkpoints, run_id).state, lambda state: state.state not in WAITING)
    assert ended.state == "finished", ended.message
    page.get_by_role("button", name="Review").click(timeout=MINUTE_MS)
    page.wait_for_url(re.compile(f"/review.*model={run_id}"))
    wait_until_ready(page)
    expect(page.locator("canvas.pane[data-row=prediction]").first).to_be_visible(timeout=5 * MINUTE_MS)
    assert coloured_pixels(pane(page, "axial", "truth")) > 0
