"""Time and memory of opening data sets: prepared subjects that are kept, small or large ones, and very many files.

    python benchmarks/prepared_data.py small --data Task04_Hippocampus [--cases 260]
    python benchmarks/prepared_data.py large [--cases 1250]
    python benchmarks/prepared_data.py files [--files 20000]

``small`` copies the cases of a data set in turn, each with a voxel of its own, prepares them as training does, and
opens them again. ``large`` keeps simulated subjects of the size of BraTS (4 x 240 x 240 x 155), whose air takes no room
on the disk, opens them, draws the sub-volumes of an epoch, and states the memory that is not the page cache of
files; ``files`` lists a folder of pairs of small images.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from core.config import SamplingConfig
from core.datasets import fingerprint, open_dataset
from core.datasets.parallel_preparation import Resources, SubjectPreparation
from core.datasets.prepared_cache import Preparation, PreparedCache, PreparedSubject
from core.datasets.voxel_facts import VoxelFacts
from core.files import allow_open_files
from core.imaging.normalise import Normaliser
from core.sampling.patches import PatchSampler
from core.sampling.streaming import StreamedSubjects
from core.types import Size3, TrainingSubject

BRATS: Size3 = (240, 240, 155)
CHANNELS = 4
EPOCH = 250  # sub-volumes
HEAD = (slice(60, 180), slice(50, 190), slice(20, 130))
Z_SCORE = Normaliser(("z_score",))


def main() -> None:
    """Run one of the measurements and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("small", "large", "files"))
    parser.add_argument("--data", type=Path, help="folder of the Decathlon's hippocampi, for small")
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--files", type=int, default=20_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEGMENTARIUM_CHECKPOINTS"] = str(Path(folder) / "runs")
        if args.what == "small":
            _measure_small(args.data, Path(folder), args.cases or 260)
        elif args.what == "large":
            _measure_large(Path(folder), args.cases or 1250)
        else:
            _measure_files(Path(folder), args.files)


def _measure_small(data: Path, folder: Path, cases: int) -> None:
    dataset = open_dataset(_copies(data, folder / "data", cases))
    preparation = Preparation(dataset.modalities, (), Z_SCORE, None)
    time.sleep(4)  # until the files count as settled
    for name, workers in (("first, one process", 1), ("first, all cores", len(os.sched_getaffinity(0))), ("again", 1)):
        if name != "again":
            PreparedCache().clear()
        start, cpu = time.perf_counter(), time.process_time()
        preparing = SubjectPreparation(dataset, preparation, PreparedCache(), Resources(workers))
        done = dict(preparing.subjects(dict.fromkeys(dataset.labelled_ids, 200_000)))
        taken = time.perf_counter() - start
        own = f"{time.process_time() - cpu:.2f} s of this process"
        print(f"{name}: {len(done)} subjects in {taken:.2f} s, {own}, {preparing.opened} of them opened")
    start = time.perf_counter()
    fingerprint(open_dataset(folder / "data"), dataset.labelled_ids)
    print(f"names and headers: {time.perf_counter() - start:.2f} s")
    print(f"kept: {PreparedCache().use().nbytes / 1e6:.0f} MB")


def _copies(data: Path, folder: Path, cases: int) -> Path:
    """A data set of cases of another one in turn, each with one voxel changed."""
    originals = sorted((data / "imagesTr").glob("[!.]*.nii.gz"))
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    entries = []
    for number in range(cases):
        source = originals[number % len(originals)]
        image = nib.load(source)
        voxels = np.asarray(image.dataobj).copy()
        voxels.flat[number] += 1
        name = f"case_{number:04d}.nii.gz"
        nib.save(type(image)(voxels, image.affine, image.header), folder / "imagesTr" / name)
        shutil.copy(data / "labelsTr" / source.name, folder / "labelsTr" / name)
        entries.append(f'{{"image": "./imagesTr/{name}", "label": "./labelsTr/{name}"}}')
    text = (data / "dataset.json").read_text()
    start = text.index('"training"')
    (folder / "dataset.json").write_text(text[:start] + f'"training": [{", ".join(entries)}], "test": []}}')
    return folder


def _measure_large(folder: Path, cases: int) -> None:
    """Memory while all subjects are open and sub-volumes of all of them are drawn and cut."""
    cache = PreparedCache(folder / "prepared")
    cache.add("case0", _simulated())
    for number in range(1, cases):  # further names of the same files, each of which is opened and mapped
        (cache.folder / f"case{number}").mkdir()
        for file in (cache.folder / "case0").iterdir():
            os.link(file, cache.folder / f"case{number}" / file.name)
    needed = (2 * CHANNELS + 1) * int(np.prod(BRATS))
    print(f"{cases} subjects of {needed / 1e6:.0f} MB, {cache.size('case0') / 1e6:.0f} MB of them on the disk")
    allow_open_files(2 * cases)
    before = _anonymous_bytes()
    start = time.perf_counter()
    subjects: list[TrainingSubject] = []
    for number in range(cases):
        opened = cache.open(f"case{number}", f"case{number}")
        assert opened is not None
        subjects.append(opened.subject)
    print(f"opened in {time.perf_counter() - start:.2f} s")
    streamed = StreamedSubjects(subjects, torch.device("cpu"), folder)
    sampler = PatchSampler(subjects, (64, 64, 64), SamplingConfig(foreground=0.5, threshold=1e-9), 4)
    start, peak = time.perf_counter(), before
    locations = sampler.draw(EPOCH, torch.Generator().manual_seed(0))
    for first in range(0, EPOCH, 2):
        streamed.crop(locations[first : first + 2], (64, 64, 64))
        peak = max(peak, _anonymous_bytes())
    taken = time.perf_counter() - start
    memory = f"{(peak - before) / 1e6:.0f} MB"
    print(f"{EPOCH} sub-volumes drawn and cut in {taken:.1f} s; memory beside mapped files: {memory}")


def _simulated() -> PreparedSubject:
    random = np.random.default_rng(0)
    image = np.zeros((CHANNELS, *BRATS), np.float16)
    image[(slice(None), *HEAD)] = random.normal(size=image[(slice(None), *HEAD)].shape)
    label = np.zeros(BRATS, np.uint8)
    label[100:140, 100:140, 60:90] = random.integers(1, 4, (40, 40, 30))
    # The measurements themselves do not matter here, only their size: those of a small volume.
    small = TrainingSubject("s", np.ones((1, 4, 4, 4), np.float32), np.ones((4, 4, 4), np.uint8), (1.0, 1.0, 1.0))
    return PreparedSubject(TrainingSubject("s", image, label, (1.0, 1.0, 1.0)), _facts(small))


def _facts(subject: TrainingSubject) -> VoxelFacts:
    from core.datasets import LoadedSubject
    from core.imaging.geometry import Geometry
    from core.labels import LabelSpace

    geometry = Geometry((4, 4, 4), np.eye(4))
    loaded = LoadedSubject(subject.id, subject.image, subject.label, geometry, geometry, Path("image"))
    return VoxelFacts.of(loaded, subject, ("T1",), LabelSpace.from_raw([(0, "background"), (1, "tumour")]))


def _anonymous_bytes() -> int:
    """Memory of this process that is no file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("expected RssAnon in /proc/self/status, which Linux has")


def _measure_files(folder: Path, files: int) -> None:
    content = gzip.compress(b"0" * 400)
    for part in ("images", "labels"):
        (folder / "set" / part).mkdir(parents=True)
        for number in range(files // 2):
            (folder / "set" / part / f"case_{number:05d}.nii.gz").write_bytes(content)
    (folder / "set" / "labels.txt").write_text('0 0 0 0 0 0 0 "background"\n1 255 0 0 1 1 1 "head"\n')
    start, cpu = time.perf_counter(), time.process_time()
    subjects = len(open_dataset(folder / "set").subjects)
    taken, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{files} files listed as {subjects} subjects in {taken:.2f} s, {cpu:.2f} s of the processor")


if __name__ == "__main__":
    main()
