"""Several cases segmented with one click: a folder that lists their results, beside those of the results."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from io import BytesIO

from core.errors import RunError
from ui.predict import segmentations
from ui.predict.segmentations import BATCH, Request
from ui.shared.hashes import short_hash


def id_of(requests: Mapping[str, Request]) -> str:
    """Id of the result of some cases; of a single one, that of its segmentation.

    Parameters
    ----------
    requests : mapping. Request by the name of the case, at least one.
    """
    ids = [segmentations.id_of(request) for request in requests.values()]
    if len(ids) == 1:
        return ids[0]
    return short_hash("\n".join(["batch", *requests, *ids]))


def start(requests: Mapping[str, Request]) -> str:
    """Start the segmentations of some cases.

    Returns
    -------
    str. Id of the result.

    Raises
    ------
    RunError
        If the folders of the results cannot be written.
    """
    id = id_of(requests)
    ids = segmentations.start_all(list(requests.values()))
    if len(requests) > 1:
        folder = segmentations.folder_of(id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            content = json.dumps(dict(zip(requests, ids, strict=True)))
            (folder / BATCH).write_text(content, encoding="utf-8")
        except OSError as error:
            raise RunError(
                f"{folder}: expected a writable folder, got: {error.strerror or error}; check its permissions"
            ) from error
    return id


def read(id: str) -> dict[str, str]:
    """Ids of the segmentations by the name of the case; empty if the id is not that of a batch that is kept."""
    if not segmentations.is_id(id):
        return {}
    try:
        content = json.loads((segmentations.folder_of(id) / BATCH).read_text(encoding="utf-8"))
        return {str(name): str(case) for name, case in content.items() if segmentations.is_id(str(case))}
    except (OSError, ValueError, AttributeError):
        return {}


def remove(id: str) -> None:
    """Cancel and remove all segmentations of a batch."""
    for case in read(id).values():
        segmentations.remove(case)
    if segmentations.is_id(id):
        shutil.rmtree(segmentations.folder_of(id), ignore_errors=True)


def archive(id: str) -> bytes:
    """A ZIP file of all finished label maps of a batch, each under the name that it has when it is saved alone."""
    buffer, names = BytesIO(), set[str]()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, case in read(id).items():
            request = segmentations.read(case)
            if request is None or not segmentations.output(case).is_file():
                continue
            target = request.download_name
            target = f"{name.replace('/', '_')}-{target}" if target in names else target
            names.add(target)
            file.write(segmentations.output(case), target)
    return buffer.getvalue()
