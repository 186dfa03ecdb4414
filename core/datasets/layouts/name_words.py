"""Words in the names of files and folders that say what a file is: a label map, an image of a modality."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Words that name a label map: English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish, Polish, Russian,
# Chinese, Japanese, Korean.
_LABEL_TEXT = """
label labels lbl seg segs segm segmentation segmentations mask masks msk gt groundtruth truth annotation annotations
annot roi rois parcellation parc aseg dseg contour contours delineation
maske masken segmentierung segmentierungen beschriftung kontur
masque masques étiquette étiquettes etiquette etiquettes vérité
máscara máscaras mascara mascaras segmentación segmentacion etiqueta etiquetas anotación anotacion
maschera maschere segmentazione etichetta etichette
segmentação segmentacao rótulo rotulo rótulos rotulos segmentatie masker etikett maskering maska etykieta
segmentacja маска маски разметка метки сегментация 标签 标注 分割 掩码 掩膜 ラベル マスク 正解 레이블 마스크 분할
"""
_MODALITY_TEXT = """
t1 t1w t1n t1c t1ce t1gd t1post t1km t2 t2w t2f t2flair t2star flair pd pdw dwi adc ir swi mra dixon fa md b0 ct cta
cbct pet suv mr mri spect us tof ute stir cbf cbv bravo mprage mp2rage inv1 inv2 water fat phase
"""
LABEL_WORDS = frozenset(_LABEL_TEXT.split())
MODALITY_WORDS = frozenset(_MODALITY_TEXT.split())
# Words that name an image of any kind, and those of them that may have the number of a case behind them.
NUMBERED_IMAGE_WORDS = frozenset(("image", "images", "img", "imgs", "imagen", "bild", "volume", "vol"))
IMAGE_WORDS = frozenset({*NUMBERED_IMAGE_WORDS, "imagenes", "bilder", "volumes", "scan", "scans"})
_SESSION_TEXT = """
ses session visit visite visita baseline followup follow fu bl timepoint time tp month months day week year run scan
exam pre post preop postop before after sitzung termin
"""
SESSION_WORDS = frozenset(_SESSION_TEXT.split())
SET_WORDS = frozenset(("train", "training", "tr", "test", "testing", "ts", "val", "validation", "valid", "dev"))
_PERSON = re.compile(
    r"(sub|subj|subject|suj|sujet|patient|pat|pt|paziente|paciente|person|participant|proband|case|fall)[-_. ]?\d+"
)
_DATE = re.compile(r"(19|20)\d\d[-_.]?\d\d[-_.]?\d\d")
_SESSION = re.compile(r"([^\W\d_]+)[-_]?\d*")
_NUMBERED_SESSION = re.compile(r"[vtmwy]\d{1,3}")


def words(text: str) -> list[str]:
    """Words of a path: letters with the digits behind them, in lower case, and parts of camel case."""
    spaced = re.sub(r"(?<=[a-zà-ÿ])(?=[A-Z])", " ", text.replace("{case}", "/"))
    return [w.lower() for w in re.findall(r"[^\W\d_]+[0-9]*|[0-9]+", spaced)]


def says_label(found: Sequence[str]) -> bool:
    """Whether one of the words of a name says that it is a label map, also with a number behind it: ``seg2``."""
    plain = [w.rstrip("0123456789") for w in found]
    return any(
        w in LABEL_WORDS or p in LABEL_WORDS or w in ("labelstr", "labelsts") for w, p in zip(found, plain, strict=True)
    )


def is_session(text: str) -> bool:
    """Whether a text names a session: a date, or a word such as "baseline", "ses-01", "v2"."""
    text = text.lower()
    match = _SESSION.fullmatch(text)
    in_words = match is not None and match[1] in SESSION_WORDS
    return in_words or bool(_DATE.fullmatch(text) or _NUMBERED_SESSION.fullmatch(text))


def is_person(text: str) -> bool:
    """Whether a text names a person by a word and a number, such as "patient001"."""
    return bool(_PERSON.fullmatch(text.lower()))


def is_set(text: str) -> bool:
    """Whether a text names a part of a data set, such as "train"."""
    return text.lower() in SET_WORDS
