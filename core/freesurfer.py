"""FreeSurfer's names, values and colours of brain structures (aseg and the Desikan-Killiany parcellation, aparc).

From its table FreeSurferColorLUT.txt (Fischl et al., "Whole brain segmentation", Neuron 2002; Desikan et al.,
NeuroImage 2006). Structures that it adds elsewhere are read from a copy of the table beside the data
(:mod:`core.datasets.layouts.colour_files`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

# Value on the left, on the right ("-" where there is one structure only), name without its side, red, green, blue.
_ASEG = """
1 40 Cerebral-Exterior 70 130 180
2 41 Cerebral-White-Matter 245 245 245
3 42 Cerebral-Cortex 205 62 78
4 43 Lateral-Ventricle 120 18 134
5 44 Inf-Lat-Vent 196 58 250
6 45 Cerebellum-Exterior 0 148 0
7 46 Cerebellum-White-Matter 220 248 164
8 47 Cerebellum-Cortex 230 148 34
9 48 Thalamus 0 118 14
10 49 Thalamus-Proper 0 118 14
11 50 Caudate 122 186 220
12 51 Putamen 236 13 176
13 52 Pallidum 12 48 255
14 - 3rd-Ventricle 204 182 142
15 - 4th-Ventricle 42 204 164
16 - Brain-Stem 119 159 176
17 53 Hippocampus 220 216 20
18 54 Amygdala 103 255 255
19 55 Insula 80 196 98
20 56 Operculum 60 58 210
24 - CSF 60 60 60
25 57 Lesion 255 165 0
26 58 Accumbens-area 255 165 0
27 59 Substancia-Nigra 0 255 127
28 60 VentralDC 165 42 42
29 61 undetermined 135 206 235
30 62 vessel 160 32 240
31 63 choroid-plexus 0 200 200
72 - 5th-Ventricle 120 190 150
77 - WM-hypointensities 200 70 255
78 79 WM-hypointensities 255 148 10
80 - non-WM-hypointensities 164 108 226
81 82 non-WM-hypointensities 164 108 226
85 - Optic-Chiasm 234 169 30
192 - Corpus_Callosum 250 255 50
251 - CC_Posterior 0 0 64
252 - CC_Mid_Posterior 0 0 112
253 - CC_Central 0 0 160
254 - CC_Mid_Anterior 0 0 208
255 - CC_Anterior 0 0 255
"""

# Value on the left (1000 more on the right), name, red, green, blue.
_APARC = """
1000 unknown 25 5 25
1001 bankssts 25 100 40
1002 caudalanteriorcingulate 125 100 160
1003 caudalmiddlefrontal 100 25 0
1004 corpuscallosum 120 70 50
1005 cuneus 220 20 100
1006 entorhinal 220 20 10
1007 fusiform 180 220 140
1008 inferiorparietal 220 60 220
1009 inferiortemporal 180 40 120
1010 isthmuscingulate 140 20 140
1011 lateraloccipital 20 30 140
1012 lateralorbitofrontal 35 75 50
1013 lingual 225 140 140
1014 medialorbitofrontal 200 35 75
1015 middletemporal 160 100 50
1016 parahippocampal 20 220 60
1017 paracentral 60 220 60
1018 parsopercularis 220 180 140
1019 parsorbitalis 20 100 50
1020 parstriangularis 220 60 20
1021 pericalcarine 120 100 60
1022 postcentral 220 20 20
1023 posteriorcingulate 220 180 220
1024 precentral 60 20 220
1025 precuneus 160 140 180
1026 rostralanteriorcingulate 80 20 140
1027 rostralmiddlefrontal 75 50 125
1028 superiorfrontal 20 220 160
1029 superiorparietal 20 180 140
1030 superiortemporal 140 220 220
1031 supramarginal 80 160 20
1032 frontalpole 100 0 100
1033 temporalpole 70 70 70
1034 transversetemporal 150 150 200
1035 insula 255 192 32
"""


def freesurfer_colours(classes: Sequence[tuple[int, str]]) -> dict[int, str]:
    """FreeSurfer's colours of the classes of a data set, by value; empty unless they are FreeSurfer's structures.

    They are where a class has one of its names with a side, spelt as there (``Left-Putamen``, ``ctx-rh-insula``), or a
    name, in any spelling, together with its value (16 ``brain stem``). Then every class with one of its names has its
    colour; left and right have the same one.

    Parameters
    ----------
    classes : sequence of (int, str). Value in label files and name of each class.
    """
    structures = _structures()
    colours = {_normalised(name): colour for _, name, colour in structures}
    sided = {name for _, name, _ in structures if name.startswith(("Left-", "Right-", "ctx-"))}
    numbered = {(value, _normalised(name)) for value, name, _ in structures}
    if not any(name in sided or (value, _normalised(name)) in numbered for value, name in classes):
        return {}
    return {value: colours[_normalised(name)] for value, name in classes if _normalised(name) in colours}


@functools.cache
def structure_names() -> dict[int, str]:
    """Names of the structures by value; of two names of one value the later."""
    return {value: name for value, name, _ in _structures()}


@functools.cache
def _structures() -> tuple[tuple[int, str, str], ...]:
    """Value, name and colour of every structure."""
    entries: list[tuple[int, str, str]] = []
    for line in _ASEG.strip().splitlines():
        left, right, name, *channels = line.split()
        sides = [(left, name)] if right == "-" else [(left, f"Left-{name}"), (right, f"Right-{name}")]
        entries += [(int(value), sided, _colour(channels)) for value, sided in sides]
    for line in _APARC.strip().splitlines():
        value, name, *channels = line.split()
        entries += [
            (int(value) + n * 1000, f"ctx-{side}-{name}", _colour(channels)) for n, side in ((0, "lh"), (1, "rh"))
        ]
    return tuple(entries)


def _colour(channels: Sequence[str]) -> str:
    return "#" + "".join(f"{int(channel):02x}" for channel in channels)


def _normalised(name: str) -> str:
    """A name without case and separators."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
