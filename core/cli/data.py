"""``data``: how the files of a folder are named: describe one, list the layouts that are known."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.cli.arguments import add_data, add_json, add_progress
from core.cli.data_download import add_download
from core.cli.output import align_columns, write_text
from core.cli.progress import show_progress
from core.datasets.described_regions import Classes, check_regions, follow_classes, parse_regions
from core.datasets.folder_description import DescribedFolder, describe, parse_classes, starting_point
from core.datasets.label_values import default_classes, label_values
from core.datasets.layouts.described_layout import modality_table
from core.datasets.layouts.known_sets import known_sets
from core.datasets.layouts.set_description import KEYS, to_toml
from core.datasets.prepared_cache import PreparedCache
from core.datasets.recognition import CODED
from core.datasets.registry import open_dataset
from core.datasets.saved_descriptions import forget_description, save_description
from core.disk_cache import DiskCache, cache_limit_bytes
from core.errors import DatasetError
from core.formatting import format_bytes, format_count, format_list
from core.imaging.foreign_files import decoded_cache
from core.paths import dataset_folder
from core.strict_json import dumps

MAX_CASES = 12  # that are printed
MAX_LEFT_OVER = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_describe(actions)
    layouts = actions.add_parser("layouts", help="list the layouts that are known, or one with its patterns")
    layouts.add_argument("name", metavar="NAME", nargs="?", help="layout whose patterns, classes and notes are shown")
    add_json(layouts)
    layouts.set_defaults(act=_layouts)
    text = "show how much the caches of decoded images and of prepared subjects hold, or empty them"
    cache = actions.add_parser("cache", help=text, description=text)
    cache.add_argument("--clear", action="store_true", help="remove what they hold; it is made again when it is needed")
    add_json(cache)
    cache.set_defaults(act=_cache)
    add_download(actions)


def run(args: argparse.Namespace) -> int:
    """Run one action.

    Raises
    ------
    UserError
        As the actions state.
    """
    return int(args.act(args))


def _cache(args: argparse.Namespace) -> int:
    """State what the caches of decoded images and prepared subjects hold, and empty them on request."""
    caches: tuple[DiskCache | PreparedCache, ...] = (decoded_cache(), PreparedCache())
    uses = [cache.clear() if args.clear else cache.use() for cache in caches]
    decoded, prepared = (
        {"folder": cache.folder, "entries": use.entries, "bytes": use.nbytes}
        for cache, use in zip(caches, uses, strict=True)
    )
    limit = cache_limit_bytes()
    if args.json:
        print(dumps({**decoded, "prepared": prepared, "limit_bytes": limit, "cleared": args.clear}))
        return 0
    removed = "removed: " if args.clear else ""
    for what, cache, use in zip(("decoded images", "prepared subjects"), caches, uses, strict=True):
        print(f"{removed}{use.entries} {what}, {format_bytes(use.nbytes)}, in {cache.folder}")
    print(f"limit of each: {format_bytes(limit)} (SEGMENTARIUM_CACHE_GB)")
    return 0


def _add_describe(actions: Any) -> None:
    text = "propose, correct and save how the files of a folder are named; the folder itself is not written to"
    parser = actions.add_parser("describe", help=text, description=text)
    add_data(parser, "folder of the data set")
    flags = parser.add_argument
    flags("--from", dest="start", metavar="NAME|FILE", help="start from a known layout, a variant, or a TOML file")
    flags("--pattern", "--images", dest="images", metavar="PATTERN", nargs="+", action="extend", help=KEYS["images"])
    flags("--labels", metavar="PATTERN", nargs="+", action="extend", help=KEYS["labels"])
    flags("--modalities", metavar="TEXT=NAME", nargs="+", action="extend", help=KEYS["modalities"])
    flags("--classes", metavar="NAME=VALUE", nargs="+", action="extend", help=KEYS["classes"])
    flags("--colours", metavar="NAME=#RRGGBB", nargs="+", action="extend", help=KEYS["colours"])
    flags("--ignored", dest="ignore", metavar="NAME", help=KEYS["ignore"])
    flags("--regions", metavar="NAME=CLASS,CLASS", nargs="+", action="extend", help=f"{KEYS['regions']}; none for none")
    flags("--regions-class-order", metavar="CLASS", nargs="+", action="extend", help=KEYS["regions_class_order"])
    flags("--id", metavar="TEMPLATE", help=KEYS["id"])
    flags("--rater", metavar="TEXT", help=KEYS["rater"])
    flags("--overlap", metavar="error|later", help=KEYS["overlap"])
    flags("--several", metavar="error|one", help=KEYS["several"])
    flags("--save", action="store_true", help="keep the description for this folder: every command and page uses it")
    flags("--forget", action="store_true", help="remove the description that was saved for this folder")
    flags("--out", metavar="FILE.toml", type=Path, help="write the description to this file, for --layout FILE.toml")
    flags("--report", metavar="FILE", type=Path, help="write what --json prints to this file")
    add_progress(parser)
    add_json(parser)
    parser.set_defaults(act=_describe)


def _describe(args: argparse.Namespace) -> int:
    folder = dataset_folder(args.data)
    if args.forget:
        found = forget_description(folder)
        print(f"{folder}: {'its description is removed' if found else 'no description was saved'}", file=sys.stderr)
        return 0
    described = describe(folder, starting_point(args.start) if args.start else None)
    described = described.with_changes(_changes(args, described))
    values: dict[int, int] = {}
    if described.needs_classes:
        with show_progress("label maps", args.progress) as progress:
            values = label_values(described.label_files(), progress)
        described = described.with_changes({"classes": default_classes(described.folder, values)})
    saved = None
    if args.save or args.out:
        _check(described)
    if args.save:
        saved = save_description(folder, described.content)
        open_dataset(folder)
    if args.out:
        write_text(args.out, to_toml(described.content), DatasetError)
    report = report_of(described, values, saved)
    if args.report:
        write_text(args.report, dumps(report), DatasetError)
    print(dumps(report, indent=2) if args.json else "\n".join(_text(described, values, saved)))
    return 0


def report_of(described: DescribedFolder, values: dict[int, int], saved: Path | None) -> dict[str, Any]:
    """The description of a folder, and what it makes of its files, as JSON values."""
    found = described.assignment
    return {
        "folder": str(described.folder),
        "description": dict(described.content),
        "saved": None if saved is None else str(saved),
        "modalities": found.modalities,
        "cases": modality_table(found.cases, found.modalities),
        "label_values": {str(value): count for value, count in values.items()},
        "problems": found.problems,
        "warnings": found.warnings,
        "notes": found.notes,
        "left_over": found.left_over,
        "image_files": described.files,
    }


def _changes(args: argparse.Namespace, described: DescribedFolder) -> dict[str, Any]:
    """Keys of the description that flags state."""
    changes: dict[str, Any] = {}
    for key in ("images", "labels"):
        if getattr(args, key):
            changes[key] = getattr(args, key)[0] if len(getattr(args, key)) == 1 else getattr(args, key)
    if args.images and described.content.get("modalities") and not args.modalities and not args.start:
        changes["modalities"] = None  # they belong to the pattern that was proposed
    for key in ("modalities", "colours"):
        if getattr(args, key):
            changes[key] = dict(_pair(key, text) for text in getattr(args, key))
    if args.labels and described.content.get("dicom"):
        changes = {"classes": None, "colours": None} | changes  # not those of segments
    if args.classes:
        labels = changes.get("labels", described.content.get("labels", ""))
        named = "{label" in str(labels) or bool(described.content.get("dicom") and not labels)
        changes["classes"] = parse_classes(args.classes, masks=named)
        if not args.colours and (kept := changes.get("colours", described.content.get("colours"))):
            changes["colours"] = {n: c for n, c in kept.items() if n in changes["classes"]} or None
    changes |= {k: getattr(args, k) for k in ("ignore", "id", "rater", "overlap", "several") if getattr(args, k)}
    return changes | _region_changes(args, {**described.content, **changes}, described.assignment.description.classes)


def _region_changes(args: argparse.Namespace, content: dict[str, Any], before: Classes | None) -> dict[str, Any]:
    """Regions that flags state, or that follow other classes."""
    changes: dict[str, Any] = {}
    if args.classes and before is not None:
        followed = follow_classes(content, before, content["classes"])
        changes = {k: v for k, v in followed.changes.items() if not (k == "ignore" and args.ignore)}
        if followed.lost and not args.regions:
            print(
                f"warning: regions that are not made of whole classes any more are removed: "
                f"{', '.join(followed.lost)}; state them with --regions",
                file=sys.stderr,
            )
    if args.regions:
        changes |= {"regions": parse_regions(args.regions), "regions_class_order": None}
    if args.regions_class_order:
        changes["regions_class_order"] = args.regions_class_order
    content = {**content, **changes}
    classes = content.get("classes", before)
    if (args.regions or args.classes) and content.get("regions") and classes is not None:
        order = content.get("regions_class_order") or []
        check_regions(content["regions"], order, classes, str(content.get("ignore") or ""))
    return changes


def _pair(key: str, text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")  # a description of a series may hold one
    if not equals or not name.strip() or not value.strip():
        raise DatasetError(f"{key}: expected TEXT=NAME, got {text!r}")
    return name.strip(), value.strip()


def _check(described: DescribedFolder) -> None:
    """Refuse to save a description that reads nothing, or files that contradict each other."""
    found = described.assignment
    if not found.images:
        raise DatasetError(
            f"{described.folder}: expected patterns that fit images, got none that does; correct --pattern"
        )
    if found.problems:
        raise DatasetError(
            f"{described.folder}: expected every image and label map once, got {format_list(list(found.problems), 3)}; "
            "correct the patterns"
        )


def _text(described: DescribedFolder, values: dict[int, int], saved: Path | None) -> Iterator[str]:
    found = described.assignment
    yield to_toml(described.content)
    labelled = sum(bool(case.labels) for case in found.cases)
    cases, files = format_count(len(found.cases), "case"), format_count(described.files, "image file")
    yield f"{cases}, {labelled} with labels; {files}"
    rows = modality_table(found.cases[:MAX_CASES], found.modalities)
    if rows:
        yield from align_columns([list(rows[0]), *(list(row.values()) for row in rows)])
    if len(found.cases) > MAX_CASES:
        yield f"... and {len(found.cases) - MAX_CASES} more"
    for value, count in values.items():
        yield f"label value {value}: in {format_count(count, 'label map')}"
    for problem in found.problems[:MAX_LEFT_OVER]:
        yield f"error: {problem}"
    yield from (f"warning: {warning}" for warning in found.warnings)
    yield from (f"note: {note}" for note in found.notes)
    if found.left_over:
        left_over = format_list(list(found.left_over), MAX_LEFT_OVER)
        yield f"left over: {format_count(len(found.left_over), 'file')}: {left_over}"
    if saved is not None:
        yield f"saved: {saved}"
    else:
        yield "nothing is saved; correct it with --pattern, --labels, --modalities and --classes, then add --save"


def _layouts(args: argparse.Namespace) -> int:
    sets = known_sets()
    if args.name and args.name not in sets:
        raise DatasetError(f"layouts: expected one of {', '.join(sets)}; got {args.name!r}")
    if args.name:
        content = dict(sets[args.name].content)
        print(dumps(content, indent=2) if args.json else to_toml({k: v for k, v in content.items() if k != "variants"}))
        return 0
    rows = [(name, layout.title, layout.expects) for name, layout in CODED.items()]
    rows += [(d.name, d.title, _example(d.content)) for d in sets.values()]
    rows += [(f"{d.name}/{v}", d.variant(v).title, "") for d in sets.values() for v in d.variants]
    if args.json:
        print(dumps([{"name": n, "title": t, "files": f} for n, t, f in rows], indent=2))
    else:
        width = max(len(name) for name, _, _ in rows)
        print("\n".join(f"{name.ljust(width)}  {title}" for name, title, _ in rows))
    return 0


def _example(content: Any) -> str:
    images = content.get("images", "")
    first = next(iter(images.values())) if isinstance(images, dict) else images
    return str(first[0] if isinstance(first, list) else first)
