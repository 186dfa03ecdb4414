"""The fetal atlas as a data set: a Decathlon-style folder of links to its volumes."""

from __future__ import annotations

import json
from pathlib import Path

# Classes of the parcellation (Fidon et al. 2022, a spatio-temporal atlas of the fetal brain with spina bifida aperta).
CLASSES = (
    "background",
    "white matter",
    "ventricular system",
    "cerebellum",
    "extra-axial CSF",
    "cortical grey matter",
    "deep grey matter",
    "brainstem",
    "corpus callosum",
)


def make_fetal_folder(atlas: Path, folder: Path, cases: int | None = None) -> Path:
    """Write a dataset.json and links to volumes and parcellations.

    Parameters
    ----------
    atlas : Path. Folder of the atlas, one subfolder per case.
    folder : Path. Folder to write to.
    cases : int, optional. Number of cases, the oldest fetuses; all 15 by default.
    """
    training = []
    for case in sorted(p for p in atlas.iterdir() if p.is_dir())[-cases if cases else None :]:
        name = case.name.removeprefix("fetal_SB_atlas_") + ".nii.gz"
        for part, source in (("imagesTr", "srr.nii.gz"), ("labelsTr", "parcellation.nii.gz")):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / name).symlink_to(case / source)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "name": "Fetal atlas",
        "description": "averages of fetal brains with spina bifida aperta, 21 to 34 weeks",
        "licence": "CC0 1.0",
        "modality": {"0": "T2"},
        "labels": {str(value): name for value, name in enumerate(CLASSES)},
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder
