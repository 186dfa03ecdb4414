"""Records the data of a run when it starts, and compares it with the record when the run is resumed."""

from __future__ import annotations

from core.checkpointing.metadata import ACCEPT_DATA
from core.datasets.data_record import ChangedDataError, DataRecord, VoxelDigests
from core.events import Note
from core.files import is_present
from core.formatting import format_list
from core.training.run_data import RunData, RunInputs

NOT_RECORDED = (
    "note: this run began with a version that did not record its data, so whether it has changed since is not known; "
    "it is recorded from now on"
)


class DataCheck:
    """The record of a run's data while it starts: from headers first, then from the voxels as subjects are read.

    Parameters
    ----------
    inputs : RunInputs. Run folder and listener.
    data : RunData. The data of the run.
    resumed : bool. Whether the run continues from a checkpoint.

    Raises
    ------
    ChangedDataError
        If headers differ from those of the record, unless the change was accepted (``runs resume --force``). Other
        modalities or classes make another network, which :func:`core.training.run_metadata.check_unchanged` refuses.
    DatasetError
        If the record is damaged.
    VolumeError
        If a header is invalid.
    """

    def __init__(self, inputs: RunInputs, data: RunData, resumed: bool) -> None:
        self._folder, self._listener = inputs.folder, inputs.listener
        self._accepted = is_present(inputs.folder / ACCEPT_DATA)
        self._before = self._load() if resumed else None
        ids = (*data.split.train, *data.split.val)
        self._now = DataRecord.read_headers(data.dataset, ids, data.modalities, data.labels)
        if self._before is not None and self._before.has_channels_of(self._now) and not self._accepted:
            self._refuse(self._before.changes(self._now))
        added = [id for id in data.dataset.labelled_ids if id not in (*ids, *data.split.test)]
        if resumed and added:
            inputs.listener(
                Note(f"note: not part of this run, as they were added after it began: {format_list(added)}")
            )

    def add(self, id: str, digests: VoxelDigests) -> None:
        """Add the voxels of a subject, read with the modalities and classes of the run."""
        self._now.subjects[id] = self._now.subjects[id].with_digests(digests)

    def finish(self, is_main: bool) -> None:
        """Compare the voxels of all subjects, and write the record if this process is rank 0.

        Raises
        ------
        ChangedDataError
            If the data differs from the record, unless the change was accepted.
        """
        changes = self._before.changes(self._now) if self._before is not None else []
        for change in changes:
            self._listener(Note(f"the data has changed since the run began: {change}"))
        if not self._accepted:
            self._refuse(changes)
        if is_main:
            if self._before is None or changes:
                earlier = self._before.accepted if self._before is not None else ()
                self._now.with_accepted((*earlier, *changes)).save(self._folder)
            (self._folder / ACCEPT_DATA).unlink(missing_ok=True)

    def _load(self) -> DataRecord | None:
        if self._accepted:
            return DataRecord.load_or_none(self._folder)
        record = DataRecord.load(self._folder)
        if record is None:
            self._listener(Note(NOT_RECORDED))
        return record

    def _refuse(self, changes: list[str]) -> None:
        if changes:
            raise ChangedDataError(changes)
