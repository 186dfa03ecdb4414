"""The Data page without a browser."""

from __future__ import annotations

import pytest

from tests.support.app_pages import button_labels, open_page, texts

pytestmark = pytest.mark.usefixtures("empty_app")


def test_page_offers_to_make_the_demo_data() -> None:
    app = open_page("data")
    assert "Ten synthetic subjects" in texts(app)
    assert "Make the demo data" in button_labels(app)


def test_unusable_folder_in_url_is_reported() -> None:
    app = open_page("data", data="*missing*")
    (error,) = app.error
    assert "found none at" in error.value and "\\*missing\\*" in error.value
