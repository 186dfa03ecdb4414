"""``data download``: list the public data sets that can be downloaded, show the licence of one, fetch it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.cli.arguments import add_json, add_progress
from core.cli.output import align_columns
from core.cli.progress import show_progress
from core.datasets.downloads import Download, download, find_download, known_downloads
from core.datasets.publisher_sets import sets_to_register
from core.formatting import format_number
from core.paths import data_root
from core.strict_json import dumps


def add_download(actions: Any) -> None:
    """Declare the arguments."""
    text = "fetch a public data set into the folder of data sets; without a name: list those that can be fetched"
    parser = actions.add_parser("download", help=text, description=text)
    parser.add_argument("name", metavar="NAME", nargs="?", help="data set")
    parser.add_argument(
        "--accept-licence", action="store_true", help="fetch it: its licence, which is shown without this, is accepted"
    )
    parser.add_argument("--to", metavar="DIR", help="folder of data sets (default: SEGMENTARIUM_DATA, or data/)")
    add_progress(parser)
    add_json(parser)
    parser.set_defaults(act=_download)


def _download(args: argparse.Namespace) -> int:
    if not args.name:
        _list(args)
        return 0
    wanted, root = find_download(args.name), data_root(args.to)
    if not args.accept_licence:
        print(dumps(_facts(wanted), indent=2) if args.json else "\n".join(licence_lines(wanted, root)))
        return 0
    with show_progress("MB", args.progress) as progress:
        shown = None

        def report(done: float, total: int, text: str = "", /) -> None:
            nonlocal shown
            now = int(done) // 10**6, max(total, int(done)) // 10**6, text
            if now != shown:  # pieces are smaller than the unit
                progress(*now)
            shown = now

        folder = download(wanted, root, report)
    print(dumps({**_facts(wanted), "folder": str(folder)}) if args.json else folder)
    return 0


def licence_lines(wanted: Download, root: Path) -> list[str]:
    """What is shown before a data set is fetched."""
    return [
        wanted.title,
        f"licence   {wanted.licence}",
        f"source    {wanted.source}",
        f"size      about {format_number(wanted.size_gb, 2)} GB to fetch; as much again while it is unpacked",
        f"verified  {wanted.verified}",
        f"goes to   {root / wanted.folder}",
        "read the licence; if you accept it, add --accept-licence",
    ]


def _list(args: argparse.Namespace) -> None:
    others = sets_to_register()
    if args.json:
        registered = [
            {"name": s.name, "title": s.title, "source": s.source, "files": s.images, "labels": s.labels}
            for s in others
        ]
        print(dumps({"download": [_facts(d) for d in known_downloads().values()], "register": registered}, indent=2))
        return
    rows = [(d.name, d.title, f"{format_number(d.size_gb, 2)} GB", d.licence) for d in known_downloads().values()]
    print("\n".join(align_columns([("name", "data set", "about", "licence"), *rows], left=4)))
    print("\nOthers come from their publishers, most of whom ask to register; put the folder into the data root.\n")
    for s in others:
        print(f"{s.title}: {s.source}\n  images  {s.images}" + (f"\n  labels  {s.labels}" if s.labels else ""))


def _facts(wanted: Download) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "title": wanted.title,
        "licence": wanted.licence,
        "source": wanted.source,
        "size_gb": wanted.size_gb,
        "verified": wanted.verified,
        "files": [file.url for file in wanted.files],
    }
