"""Findings of axe-core on a page, against WCAG 2.2 AA and axe's best practices."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import axe_playwright_python
from playwright.sync_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Findings about elements that are Streamlit's own: rule and what the element's HTML begins with.
STREAMLITS_OWN = (("presentation-role-conflict", '<section role="presentation"'),)


@cache
def _axe() -> str:
    return (files(axe_playwright_python) / "axe.min.js").read_text(encoding="utf-8")


def findings(page: Page) -> list[str]:
    """What axe finds on the page as it is now, shadow trees included; one line each."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe())
    result = page.evaluate("rules => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })", RULES)
    return [
        f"{violation['id']}: {node['html'][:160]} {' '.join(node['failureSummary'].split())[:200]}"
        for violation in result["violations"]
        for node in violation["nodes"]
        if not any(violation["id"] == rule and node["html"].startswith(html) for rule, html in STREAMLITS_OWN)
    ]


def focused(page: Page) -> dict[str, str]:
    """The focused element, also in a shadow tree: its tag, name and outline."""
    found: dict[str, str] = page.evaluate(
        """() => {
            let e = document.activeElement;
            while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
            const style = getComputedStyle(e);
            return { tag: e.tagName, name: e.getAttribute("aria-label") ?? e.innerText ?? "",
                     outline: style.outlineStyle === "none" ? "" : style.outlineWidth, shadow: style.boxShadow };
        }"""
    )
    return found
