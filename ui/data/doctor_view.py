"""What the data doctor found, on screen: findings with their fixes, a table of subjects, a wall of middle slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from ui.shared import formatting

MOST_FINDINGS = 12  # shown openly; the others are in a table
PICTURES_PER_PAGE = 24
ICONS = {"error": ":red[:material/error:]", "warning": ":orange[:material/warning:]", "note": ":gray[:material/info:]"}
ORDER = tuple(ICONS)


def findings(found: Sequence[Mapping[str, Any]]) -> None:
    """Findings, the worst first; many as a table."""
    ordered = sorted(found, key=lambda f: ORDER.index(f["severity"]))
    for finding in ordered[:MOST_FINDINGS]:
        where = " · ".join(formatting.plain(p) for p in (finding["subject"], _file(finding["file"])) if p)
        said = formatting.plain(formatting.sentence(finding["message"]) if not where else finding["message"])
        text = f"{ICONS[finding['severity']]} " + (f"**{where}**: " if where else "") + said
        st.markdown(
            text + (f"  \n:gray[{formatting.plain(formatting.sentence(finding['fix']))}]" if finding["fix"] else "")
        )
    if len(ordered) > MOST_FINDINGS:
        with st.expander(f"All {len(ordered)} findings"):
            st.dataframe([dict(f) for f in ordered], hide_index=True, alt="Findings of the data doctor")


def subjects(report: Mapping[str, Any], classes: Sequence[str]) -> None:
    """One row per subject: geometry and label shares."""
    rows = [_row(facts, classes) for facts in report["subjects"]]
    right = st.column_config.TextColumn(alignment="right")
    columns: dict[str, Any] = {"size (voxels)": right, "voxel size (mm)": right}
    share = st.column_config.NumberColumn(format="%.2f %%", help="share of all voxels of the volume")
    columns |= {f"{name} ": share for name in classes}
    st.dataframe(
        rows, hide_index=True, column_config=columns, height=min(35 * (len(rows) + 1) + 3, 400), placeholder="–",
        alt="Subjects of the data set",
    )  # fmt: skip


def pictures(report: Mapping[str, Any], folder: Path) -> None:
    """The middle slice of every subject, without and with its labels."""
    shown = [facts for facts in report["subjects"] if facts["thumbnail"]]
    pages = -(-len(shown) // PICTURES_PER_PAGE)
    number = st.pagination(pages, key="picture_page") if pages > 1 else 1
    with st.grid("auto", min_column_width=230, gap="small") as grid:
        for facts in shown[(number - 1) * PICTURES_PER_PAGE : number * PICTURES_PER_PAGE]:
            picture = folder / facts["thumbnail"]
            if picture.parent == folder and picture.is_file():
                with grid.cell():
                    st.image(
                        str(picture),
                        caption=formatting.plain(facts["id"]),
                        width="stretch",
                        alt=f"Middle slice of {facts['id']}",
                    )


def _file(path: str) -> str:
    """A file with the folder it lies in: an image and its label often have the same name."""
    return "/".join(Path(path).parts[-2:])


def _row(facts: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    shares = facts["label_shares"]
    return {
        "subject": facts["id"],
        "": "ok" if facts["ok"] else "error",
        "size (voxels)": formatting.size(facts["shape"]) if facts["shape"] else None,
        "voxel size (mm)": formatting.size(float(v) for v in facts["spacing_mm"]) if facts["spacing_mm"] else None,
        "axes": facts["orientation"],
        "images": ", ".join(facts["modalities"]),
        **{f"{name} ": 100 * shares[name] if name in shares else None for name in classes},
    }
