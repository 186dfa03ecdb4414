"""Parts of pages that scripts write, between two marks."""

from __future__ import annotations


def replace_part(page: str, name: str, text: str) -> str:
    """A page with a new text between the marks of a part.

    Raises
    ------
    ValueError
        If the page does not have both marks.
    """
    start, end = f"<!-- {name}: made by `make docs`, do not edit -->\n", f"<!-- end of {name} -->\n"
    before, found_start, rest = page.partition(start)
    _, found_end, after = rest.partition(end)
    if not (found_start and found_end):
        raise ValueError(f"expected the lines {start!r} and {end!r} in the page")
    return f"{before}{start}\n{text}\n{end}{after}"
