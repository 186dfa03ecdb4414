"""Data sets: folder layouts, their subjects, reading of images and label maps, the data doctor, the demo data."""

from core.datasets.fingerprint import fingerprint
from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.loading import LoadedSubject, load_subject
from core.datasets.options import DataOptions
from core.datasets.registry import LAYOUTS, open_dataset

__all__ = [
    "LAYOUTS",
    "DataOptions",
    "Dataset",
    "ImageRef",
    "LoadedSubject",
    "Subject",
    "fingerprint",
    "load_subject",
    "open_dataset",
]
