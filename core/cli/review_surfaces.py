"""``review surfaces``: make the surfaces of a case, and write them as STL, PLY or a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core.cli.arguments import add_progress
from core.cli.kept_predictions import add_kept_model, open_kept_model
from core.cli.output import align_columns, check_output_file, number_cell
from core.cli.progress import show_progress
from core.errors import ConfigError, VolumeError
from core.evaluation.surface_meshes import CaseSurfaces, Surface
from core.files import atomic_write
from core.runs.kept_surfaces import ARCHIVE, keep_surfaces, write_meshes
from core.strict_json import dumps

HELP = "make the surfaces of the classes of a case, with signed distances, and write them as STL, PLY or a picture"
SIDE_NAMES = {"truth": "reference", "prediction": "prediction"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_kept_model(parser)
    parser.add_argument("subject", metavar="SUBJECT", help="id of a subject whose segmentation is kept")
    for ending, more in (("stl", ""), ("ply", ", with colours and signed distances")):
        parser.add_argument(
            f"--{ending}",
            metavar="FOLDER|FILE.zip",
            type=Path,
            help=f"folder or ZIP file to write a file SUBJECT-CLASS-reference.{ending} and ...-prediction.{ending} of "
            f"each class to, in RAS mm{more}",
        )
    parser.add_argument("--picture", metavar="P.png", type=Path, help="picture to write: the surfaces from three sides")
    add_progress(parser)


def run(args: argparse.Namespace) -> int:
    """Make the surfaces unless they are kept, write files, and report.

    Raises
    ------
    UserError
        If there is no kept segmentation of the subject, or a file cannot be read or written.
    """
    if args.picture is not None:
        check_output_file(args.picture, (".png",), VolumeError)
    if args.stl is not None and args.stl == args.ply and args.stl.name.lower().endswith(ARCHIVE):
        raise ConfigError(f"--ply: expected another ZIP file than that of --stl, got {args.ply} for both")
    for archive in (path for path in (args.stl, args.ply) if path and path.name.lower().endswith(ARCHIVE)):
        check_output_file(archive, (ARCHIVE,), VolumeError)
    model = open_kept_model(args)
    with show_progress("classes", args.progress) as progress:
        kept = keep_surfaces(
            model.dataset,
            model.metadata.label_space,
            model.metadata.regions,
            model.prediction(args.subject),
            progress,
        )
    found, written = kept.content.surfaces, []
    for ending, place in ((".stl", args.stl), (".ply", args.ply)):
        if place is not None:
            written += write_meshes(kept.content, place, ending, args.subject)
    if args.picture is not None:
        try:
            atomic_write(args.picture, kept.content.picture)
        except OSError as error:
            raise VolumeError(f"{args.picture}: cannot be written: {error.strerror or error}") from error
        written.append(args.picture)
    for remark in _remarks(args.subject, found):
        print(f"warning: {remark}", file=sys.stderr)
    if args.json:
        report = {
            "subject": args.subject,
            "file": kept.file,
            "key": kept.content.key,
            "written": written,
            "surfaces": _described(found),
        }
        print(dumps(report))
        return 0
    print("\n".join(_table(found)))
    print("".join(f"{path}\n" for path in written), end="")
    return 0


def _described(found: CaseSurfaces) -> list[dict[str, Any]]:
    return [
        {
            "name": found.structures[s.structure].name,
            "side": SIDE_NAMES[s.side],
            "volume_ml": s.volume_ml,
            "mesh_ml": s.mesh_ml,
            "vertices": len(s.mesh.vertices),
            "faces": len(s.mesh.faces),
            "mean_distance_mm": _mean(s),
            "largest_distance_mm": _largest(s),
            "coarsening": s.coarsening,
            "left_out": s.left_out,
        }
        for s in found.surfaces
    ]


def _table(found: CaseSurfaces) -> Iterator[str]:
    if not found.surfaces:
        yield "neither the reference nor the prediction has a voxel of any class"
        return
    rows: list[tuple[str, ...]] = [("class", "surface", "ml", "faces", "mean mm", "largest mm")]
    for s in found.surfaces:
        distances = (number_cell(_mean(s), 2), number_cell(_largest(s), 2))
        name = found.structures[s.structure].name
        rows.append((name, SIDE_NAMES[s.side], number_cell(s.volume_ml, 2), str(len(s.mesh.faces)), *distances))
    yield from align_columns(rows, left=2)


def _remarks(subject: str, found: CaseSurfaces) -> Iterator[str]:
    """What a reader of the surfaces has to know."""
    if not found.oriented:
        yield f"{subject}: the image states no orientation: coordinates are mm along the axes of its voxels, not RAS"
    if not found.has_truth:
        yield f"{subject}: no reference: surfaces of the prediction only, without distances"
    for s in found.surfaces:
        name = f"{subject}, {found.structures[s.structure].name}, {SIDE_NAMES[s.side]}"
        if s.coarsening > 1:
            yield f"{name}: made from blocks of {s.coarsening} x {s.coarsening} x {s.coarsening} voxels, as it is large"
        if s.left_out:
            yield f"{name}: without its {s.left_out} smallest parts, as there are too many"
        if s.volume_differs:
            yield (
                f"{name}: the surface encloses {s.mesh_ml:.3g} ml, the voxels have {s.volume_ml:.3g} ml: its corners "
                "are cut, which counts where it is rugged or only a few voxels wide"
            )


def _known(surface: Surface) -> np.ndarray:
    distance = surface.distance_mm
    return np.zeros(0) if distance is None else np.abs(distance[np.isfinite(distance)].astype(np.float64))


def _mean(surface: Surface) -> float | None:
    known = _known(surface)
    return float(known.mean()) if len(known) else None


def _largest(surface: Surface) -> float | None:
    known = _known(surface)
    return float(known.max()) if len(known) else None
