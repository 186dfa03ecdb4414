"""Whether the uncertainty map of a segmentation is higher where it is wrong: AUC per unseen case, on real hippocampi.

    python benchmarks/uncertainty_errors.py TASK04 [--networks 3] [--epochs 6 | --minutes M] [--folds 5]
        [--keep FOLDER] [--cases]

TASK04 is the folder Task04_Hippocampus of the Medical Segmentation Decathlon. Networks of the preset ``quick`` that
differ in their seed are trained on all folds but the first, by the program's commands. In each case of the first fold
the values of a map are taken as scores of a voxel to be wrong: the AUC is the probability that a wrong voxel has a
higher one than a right voxel, 0.5 for a map without information; equal values count half. Values are those that are
kept and shown, a byte a voxel. Voxels: all of the case, or only those that reference or prediction labels.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.processes import run_command
from core.checkpointing.metadata import read_metadata
from core.datasets import Dataset, load_subject, open_dataset
from core.datasets.loading import class_mapping
from core.inference.ensemble_predictor import open_predictor
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.inference.uncertainty import MUTUAL_INFORMATION, UNCERTAINTY, map_kinds
from core.runs.kept_maps import LEVELS, stored_values

ALL, LABELLED = "all voxels", "labelled voxels"


@dataclass(frozen=True)
class CaseScore:
    """AUC of the maps of a case by map and voxels, its share of wrong voxels in those that are labelled, its Dice."""

    auc: dict[tuple[str, str], float]
    wrong: float
    dice: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="TASK04", help="folder of the hippocampus data")
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--minutes", type=float, help="train each network for this time instead")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder for the networks, used again if they are there")
    parser.add_argument("--cases", action="store_true", help="print a table with a row per case, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.keep or Path(temporary)
        files = [train(args, root, seed) for seed in range(args.networks)]
        dataset = open_dataset(args.data)
        unseen = read_metadata(files[0]).split["val"]
        print(f"{platform.machine()}, {os.cpu_count()} cores; {len(unseen)} unseen cases of {len(dataset.ids)}")
        models = [("one network", files[:1], False), ("one network, mirrored", files[:1], True)]
        if len(files) > 1:
            models.append((f"{len(files)} networks", files, False))
        columns: dict[tuple[str, str, str], dict[str, CaseScore]] = {}
        for title, paths, mirror in models:
            predictor = open_predictor(paths, InferenceOverrides(mirror=mirror, maps=True))
            cases = {subject: score(predictor, dataset, subject) for subject in unseen}
            report(title, list(cases.values()))
            columns |= {(title, map_name, voxels): cases for map_name, voxels in next(iter(cases.values())).auc}
        if args.cases:
            print("\n".join(table(columns)))
    return 0


def train(args: argparse.Namespace, root: Path, seed: int) -> Path:
    """The last checkpoint of a network; trained unless it is there."""
    found = sorted(root.glob(f"seed-{seed}-*/last.safetensors"))
    if not found:
        options = {
            "--checkpoints": root,
            "--name": f"seed-{seed}",
            "--preset": "quick",
            **({"--minutes": args.minutes} if args.minutes else {"--epochs": args.epochs}),
            "--folds": args.folds,
            "--fold": 0,
            "--seed": seed,
        }
        run_command("train", str(args.data), *(str(word) for option in options.items() for word in option))
        found = sorted(root.glob(f"seed-{seed}-*/last.safetensors"))
    return found[0]


def score(predictor: Predictor, dataset: Dataset, subject: str) -> CaseScore:
    """The scores of a case."""
    loaded = load_subject(dataset, subject, predictor.modalities)
    assert loaded.label is not None
    truth = class_mapping(dataset.labels.names, predictor.labels.names)[loaded.label]
    found = predictor.segment_in_detail(SubjectImage.of(loaded))
    assert found.maps is not None
    wrong, labelled = found.labels != truth, (found.labels > 0) | (truth > 0)
    auc = {}
    for kind in map_kinds(predictor.outputs.names, predictor.outputs.regions is not None, found.maps.passes, False):
        values = kind.values(found.maps)
        if kind.key not in (UNCERTAINTY, MUTUAL_INFORMATION) or values is None:
            continue
        stored = stored_values(values, kind.high)
        auc[kind.name, ALL] = area_under_curve(stored, wrong)
        auc[kind.name, LABELLED] = area_under_curve(stored[labelled], wrong[labelled])
    overlap = 2 * ((found.labels == truth) & labelled).sum() / ((found.labels > 0).sum() + (truth > 0).sum())
    return CaseScore(auc, float(wrong[labelled].mean()), float(overlap))


def area_under_curve(stored: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a wrong voxel has a higher stored value than a right one, equal values counting half."""
    of_wrong, of_right = (np.bincount(stored[part], minlength=LEVELS + 1).astype(float) for part in (wrong, ~wrong))
    below = np.concatenate([[0], np.cumsum(of_right)[:-1]])
    return float((of_wrong * (below + of_right / 2)).sum() / (of_wrong.sum() * of_right.sum()))


def table(columns: Mapping[tuple[str, str, str], Mapping[str, CaseScore]]) -> Iterator[str]:
    """AUC over the labelled voxels as a Markdown table: a row per case, a column per model and map.

    Parameters
    ----------
    columns : mapping. Scores by case, by model, map and voxels.
    """
    shown = {key: cases for key, cases in columns.items() if key[2] == LABELLED}
    yield "| Case | " + " | ".join(f"{map_name}, {title}" for title, map_name, _ in shown) + " |"
    yield "|---" * (len(shown) + 1) + "|"
    for subject in next(iter(shown.values())):
        values = (f"{cases[subject].auc[map_name, voxels]:.3f}" for (_, map_name, voxels), cases in shown.items())
        yield f"| {subject} | " + " | ".join(values) + " |"


def report(title: str, cases: Sequence[CaseScore]) -> None:
    """Print a line per map and set of voxels."""
    dice, wrong = (statistics.mean(values) for values in zip(*((c.dice, c.wrong) for c in cases), strict=True))
    print(f"{title}: Dice of all labels {dice:.3f}, wrong among labelled voxels {wrong:.1%}")
    for key in cases[0].auc:
        values = sorted(case.auc[key] for case in cases)
        print(f"  {', '.join(key)}: AUC median {statistics.median(values):.3f}, {values[0]:.3f} to {values[-1]:.3f}")


if __name__ == "__main__":
    sys.exit(main())
