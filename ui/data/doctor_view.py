"""The report of the data doctor: findings with what they mean and their fixes, and a table of subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.datasets.saved_recipes import BY_RECIPE
from core.formatting import least_decimals
from ui.data.recipe_view import repair_buttons
from ui.shared import formatting

MANY_SUBJECTS = 11  # from which on their table scrolls
MAX_FINDINGS = 12  # shown as text; all are in a table
ICONS = {"error": ":red[:material/error:]", "warning": ":orange[:material/warning:]", "note": ":gray[:material/info:]"}
SEVERITIES = tuple(ICONS)


def show_findings(findings: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Show findings of a data set's folder, the most severe first, with the buttons that mend them."""
    findings = [f for f in findings if not f["message"].startswith(BY_RECIPE)]  # the recipe is shown by itself
    ordered = sorted(findings, key=lambda f: SEVERITIES.index(f["severity"]))
    for number, finding in enumerate(ordered[:MAX_FINDINGS]):
        where = " · ".join(formatting.plain(p) for p in (finding["subject"], _file(finding["file"])) if p)
        message = formatting.plain(finding["message"] if where else formatting.sentence(finding["message"]))
        advice = (finding.get("meaning", ""), finding["fix"])  # reports of earlier versions do not say what it means
        lines = [f"  \n:gray[{formatting.plain(formatting.sentence(text))}]" for text in advice if text]
        text = f"{ICONS[finding['severity']]} " + (f"**{where}**: " if where else "") + message
        st.markdown(text + "".join(lines))
        repair_buttons(path, finding, f"repair-{number}")
    if len(ordered) > MAX_FINDINGS:
        with st.expander(f"All {len(ordered)} findings"):
            st.dataframe([_without_repairs(f) for f in ordered], hide_index=True, alt="Findings of the data doctor")


def _without_repairs(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in finding.items() if name != "repairs"}


def show_subjects(report: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Show a table with geometry and label shares of each subject."""
    rows = [_row(subject, classes) for subject in report["subjects"]]
    right = st.column_config.TextColumn(alignment="right")
    columns: dict[str, Any] = {"size (voxels)": right, "voxel size (mm)": right}
    for name in classes:
        decimals = least_decimals([row[f"{name} "] for row in rows if row[f"{name} "] is not None], 2)
        columns[f"{name} "] = st.column_config.NumberColumn(
            format=f"%.{decimals}f %%",
            help="share of the voxels that have a class: those that are left out do not count",
        )
    st.dataframe(
        rows,
        hide_index=True,
        column_config=columns,
        height="content" if len(rows) <= MANY_SUBJECTS else 400,
        placeholder="–",
        alt="Subjects of the data set",
    )


def _file(path: str) -> str:
    """A file name with its folder, since an image and its label often have the same name."""
    return "/".join(Path(path).parts[-2:])


def _row(subject: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    shape, spacing_mm, shares = subject["shape"], subject["spacing_mm"], subject["label_shares"]
    return {
        "subject": subject["id"],
        "": "ok" if subject["ok"] else "error",
        "size (voxels)": formatting.size(shape) if shape else None,
        "voxel size (mm)": formatting.size(float(v) for v in spacing_mm) if spacing_mm else None,
        "axes": subject["orientation"],
        "images": ", ".join(subject["modalities"]),
        **{f"{name} ": 100 * shares[name] if name in shares else None for name in classes},
    }
