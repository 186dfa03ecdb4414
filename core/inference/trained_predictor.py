"""A predictor that knows what its network has segmented already, in the validation that chose its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.events import Segmented
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.types import ProgressCallback


class TrainedPredictor(Predictor):
    """The best network of a run, on the device of the run.

    Parameters
    ----------
    path : Path. The best checkpoint of the run.
    segmented : Segmented. Label maps of held-out subjects; those of another checkpoint or mode are not used.
    device : str. "auto", "cuda" or "cpu", as configured for the run.

    Attributes
    ----------
    subject : str. Id of the subject that is segmented next.
    """

    def __init__(self, path: Path, segmented: Segmented, device: str = "auto") -> None:
        super().__init__(path, InferenceOverrides(device=device))
        progress = self.metadata.progress
        same_weights = (progress.get("epoch"), progress.get("step")) == (segmented.epoch, segmented.step)
        self._label_maps = segmented.label_maps if same_weights and segmented.mode == self.options.mode else {}
        self.subject = ""

    def segment_unprocessed(self, image: SubjectImage, progress: ProgressCallback | None = None) -> np.ndarray:
        """The known label map of the subject where it is on the grid of the image, else a new one.

        Validation averages with the mirrored image whether or not the image states its orientation, other than
        :meth:`Predictor.segment_unprocessed`: such a subject is segmented again.
        """
        known = self._label_maps.get(self.subject)
        mirrored_blindly = not image.oriented and self.options.mirror and self.options.swapped
        if known is None or known.shape != image.shape or mirrored_blindly:
            return super().segment_unprocessed(image, progress)
        return known.unpack()
