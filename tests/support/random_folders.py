"""Random shapes of folders: sites, cases, sessions, modalities and label maps in folders and names."""

from __future__ import annotations

import random
from collections.abc import Iterator

CASES = ("case{}", "p{}", "{:03}", "{}", "sub-{:02}", "Patient_{:03}", "AB-{}-X", "{}x")
SITES = ([""], ["siteA", "siteB"], ["Ulm", "Graz"], ["train", "test"], ["1", "2"])
SESSIONS = (
    [""], ["baseline", "followup"], ["v1", "v2"], ["ses-1", "ses-2"], ["20200101", "20210203"], ["1", "2", "3"],
    ["left", "right"],
)  # fmt: skip
MODALITIES = (["T1"], ["T1", "T2"], ["t1", "t2", "flair"], ["ct"], ["T1w", "FLAIR"], ["image"], ["DWI", "ADC"])
LABELS = (["seg"], ["mask"], ["label"], ["maske"], ["mask_liver", "mask_spleen"], ["seg_rater1", "seg_rater2"])
# Paths of {s}ite, {c}ase, {v}isit, {m}odality; {w} says images or labels. Empty parts are left out, and so are
# separators at their side.
PATHS = (
    "{s}/{c}/{v}/{m}", "{s}/{c}/{c}_{v}_{m}", "{s}_{c}_{v}_{m}", "{m}/{s}/{c}_{v}", "{s}/{m}/{c}_{v}",
    "{s}/{c}_{v}_{m}/img", "{s}/{c}/{v}/{c}_{v}_{m}", "{s}_{c}/{v}/{m}", "{w}/{s}/{c}_{v}_{m}", "{s}/{v}/{c}/{m}",
)  # fmt: skip

Subject = tuple[str, str, str]  # site, case, session


def random_folder(seed: int) -> dict[str, Subject]:
    """The subject of each file of a folder; some files, sessions and sites lack."""
    choose = random.Random(seed)
    style = choose.choice(CASES)
    names = [style.format(n) for n in range(1, choose.choice((5, 8, 12)))]
    sites, sessions = choose.choice(SITES), choose.choice(SESSIONS)
    modalities, labels, path = choose.choice(MODALITIES), choose.choice(LABELS), choose.choice(PATHS)
    separator, lacking = choose.choice("_-"), choose.choice((0, 0.15))
    found: dict[str, Subject] = {}
    for subject in _subjects(choose, sites, names, sessions):
        for word in (*modalities, *labels):
            if word != modalities[0] and choose.random() < lacking:
                continue
            parts = dict(zip("scv", subject, strict=True), m=word, w="labels" if word in labels else "images")
            folders = (
                separator.join(text for text in name.format(**parts).split("_") if text) for name in path.split("/")
            )
            found["/".join(f for f in folders if f) + ".nii.gz"] = subject
    return found


def _subjects(choose: random.Random, sites: list[str], names: list[str], sessions: list[str]) -> Iterator[Subject]:
    unique = choose.random() < 0.4  # each case at one site only
    for number, site in enumerate(sites):
        for n, name in enumerate(names):
            if unique and n % len(sites) != number:
                continue
            for session in sessions:
                if session == sessions[0] or choose.random() < 0.8:
                    yield site, name, session
