"""The fetal atlas as a data set: a Decathlon-style folder of links to its volumes."""

from __future__ import annotations

import json
from pathlib import Path

# The parcellation's values (Fidon et al. 2022, a spatio-temporal atlas of the fetal brain with spina bifida aperta).
CLASSES = (
    "background", "white matter", "ventricular system", "cerebellum", "extra-axial CSF", "cortical grey matter",
    "deep grey matter", "brainstem", "corpus callosum",
)  # fmt: skip


def make_fetal_folder(atlas: Path, folder: Path) -> Path:
    """Make ``folder`` with a dataset.json and links to the 15 volumes and parcellations of ``atlas``."""
    training = []
    for case in sorted(p for p in atlas.iterdir() if p.is_dir()):
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
