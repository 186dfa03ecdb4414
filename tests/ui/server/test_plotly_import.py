"""The project imports plotly where a page has a figure, not with the page."""

from __future__ import annotations

import ast
import subprocess
import sys

from core.paths import project_root

# Streamlit imports plotly itself, for its theme: what counts is which module asks for it.
PROGRAM = """
import builtins, sys
plain, asked = builtins.__import__, set()
def note(name, globals=None, *rest):
    if name.partition(".")[0] == "plotly":
        asked.add((globals or {{}}).get("__name__", ""))
    return plain(name, globals, *rest)
builtins.__import__ = note
{imports}
assert any(name.startswith("streamlit") for name in asked), "imports are noted"
sys.exit(str(own) if (own := [n for n in asked if n.partition(".")[0] in ("core", "ui", "pages")]) else 0)
"""


def imported_by_pages() -> list[str]:
    """What pages import of the project at their beginning, as statements."""
    statements = []
    for page in sorted((project_root() / "pages").glob("*.py")):
        for node in ast.parse(page.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("core", "ui"):
                statements.append(ast.unparse(node))
    return list(dict.fromkeys(statements))


def test_no_module_that_pages_import_imports_plotly() -> None:
    imports = imported_by_pages()
    assert any("compare_view" in one for one in imports)
    program = PROGRAM.format(imports="\n".join(imports))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project_root(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
