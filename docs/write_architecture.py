"""Writes the generated part of architecture.md, and its picture of the layers: ``make docs``.

The picture is drawn from the imports, the tree from the first sentence of each module's docstring or leading comment.
"""

from __future__ import annotations

import ast
import html
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PAGE = Path(__file__).with_name("architecture.md")
PICTURE = PAGE.parent / "images" / "layers.svg"

sys.path.insert(0, str(PAGE.parents[1]))

from docs.import_graph import ROOT, folder_graph, levels, transitive_reduction  # noqa: E402
from docs.marked_part import replace_part  # noqa: E402

FOLDERS = ("pages", "ui", "core", "benchmarks", "docs")
SUFFIXES = (".py", ".js", ".css", ".md", ".svg")
COLUMN = 40  # characters before the description
COLOURS = {"pages": "#c77d2e", "ui": "#3b7dd8", "core": "#2a9171"}
WIDTH, BOX_HEIGHT, ROW_HEIGHT, MARGIN, GAP = 1240, 30, 74, 20, 14


def tree() -> str:
    """Folders and files with a line each, in a block of preformatted text."""
    lines = [f"{'app.py':<{COLUMN}}{description(ROOT / 'app.py')}"]
    for folder in FOLDERS:
        lines += _branch(ROOT / folder, 0)
    return "```\n" + "\n".join(line.rstrip() for line in lines) + "\n```"


def description(path: Path) -> str:
    """The first sentence of a file's docstring, leading comment or title; of a folder, that of its ``__init__.py``."""
    if path.is_dir():
        init = path / "__init__.py"
        return description(init) if init.exists() else ""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix in (".js", ".css"):
        comment = re.match(r"\s*(?:/\*+(.*?)\*/|((?:\s*//[^\n]*\n)+))", text, re.DOTALL)
        text = re.sub(r"^\s*(?://+|\*)", "", comment[1] or comment[2], flags=re.MULTILINE) if comment else ""
    elif path.suffix == ".md":
        text = re.sub(r"^#+ *", "", text.lstrip().partition("\n")[0]) if path.parent == PAGE.parent else ""
    else:
        return ""
    sentence = re.split(r"(?<=[^.])[.](?=\s|$)|\n\s*\n", " ".join(text.split("\n\n")[0].split()))[0]
    sentence = re.sub(r":mod:`([\w.]+)`", r"\1", sentence)
    return re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", sentence).replace("``", "").rstrip(".")


def _branch(folder: Path, depth: int) -> list[str]:
    lines = [_line(f"{folder.name}/", depth, description(folder))]
    hidden = ("__init__.py", "__pycache__")
    entries = [
        p
        for p in folder.iterdir()
        if p.name not in hidden and p.name[0] != "." and (p.is_dir() or p.suffix in SUFFIXES)
    ]
    for path in sorted(entries, key=lambda p: (p.is_dir(), p.name)):
        if path.is_dir():
            if any(path.rglob("*.py")):
                lines += _branch(path, depth + 1)
        else:
            lines.append(_line(path.name, depth + 1, description(path)))
    return lines


def _line(name: str, depth: int, text: str) -> str:
    start = "  " * depth + name
    return f"{start:<{COLUMN - 1}} {text}"


def picture() -> str:
    """The folders as an SVG picture: a folder is above the folders it imports, a line for every import that no longer
    chain of imports implies."""
    graph = folder_graph()
    level = _bands(graph)
    rows: dict[int, list[str]] = {}
    for folder in sorted(graph, key=lambda f: (f.partition(".")[0], f)):
        rows.setdefault(level[folder], []).append(folder)
    top = max(rows)
    at: dict[str, tuple[float, float, float]] = {}
    for number, folders in rows.items():
        widths = [14 + 7.3 * len(folder) for folder in folders]
        left = (WIDTH - sum(widths) - GAP * (len(widths) - 1)) / 2
        for folder, width in zip(folders, widths, strict=True):
            at[folder] = (left, MARGIN + (top - number) * ROW_HEIGHT, width)
            left += width + GAP
    height = 2 * MARGIN + top * ROW_HEIGHT + BOX_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        "<title>Folders of Segmentarium and their imports: pages at the top, the vocabulary at the bottom</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_arrows(transitive_reduction(graph), at),
        *_boxes(at),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _bands(graph: Mapping[str, Mapping[str, object]]) -> dict[str, int]:
    """The row of each folder, from the bottom: above all that it imports, and ui and pages above all of core."""
    level = levels(graph)
    floor = 1 + max(number for folder, number in level.items() if folder.partition(".")[0] == "core")
    found: dict[str, int] = {}
    for folder in sorted(graph, key=lambda f: level[f]):
        least = 0 if folder.partition(".")[0] == "core" else floor
        found[folder] = max([found[below] + 1 for below in graph[folder]] + [least])
    return found


def _arrows(graph: dict[str, set[str]], at: dict[str, tuple[float, float, float]]) -> Iterator[str]:
    for folder in sorted(graph):
        for below in sorted(graph[folder]):
            (x1, y1, w1), (x2, y2, w2) = at[folder], at[below]
            x1, y1, x2 = x1 + w1 / 2, y1 + BOX_HEIGHT, x2 + w2 / 2
            middle = (y1 + y2) / 2
            colour = COLOURS[folder.partition(".")[0]]
            yield (
                f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}" '
                f'fill="none" stroke="{colour}" stroke-opacity="0.45"/>'
            )


def _boxes(at: dict[str, tuple[float, float, float]]) -> Iterator[str]:
    for folder, (x, y, width) in at.items():
        colour = COLOURS[folder.partition(".")[0]]
        yield (
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="5" fill="#ffffff" '
            f'stroke="{colour}" stroke-width="1.5"/>'
            f'<text font-size="13" x="{x + width / 2:.0f}" y="{y + 20:.0f}" text-anchor="middle" fill="#222222">'
            f"{html.escape(folder.replace('.', '/'))}</text>"
        )


def page_with_tree(page: str) -> str:
    """The page with a new tree."""
    return replace_part(page, "tree", tree())


if __name__ == "__main__":
    PAGE.write_text(page_with_tree(PAGE.read_text("utf-8")), "utf-8")
    PICTURE.write_text(picture(), "utf-8")
