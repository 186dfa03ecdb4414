"""The process that decodes files of other formats for :mod:`core.imaging.foreign_files`.

It reads a request (:class:`Request`) a line from standard input, limits its own memory, decodes the file into the
folder of the request, and writes a response a line to standard output. It ends when it has had nothing to do for a
while.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
from pathlib import Path
from typing import IO, TypedDict

from core.errors import VolumeError

if sys.platform != "win32":
    import resource

IDLE_S = 60.0
BASE_BYTES = 512 * 2**20  # for libraries and headers, beside what the voxels take
FORMATS_PIP = "pip install -r requirements-formats.txt"


class Request(TypedDict):
    """A file to decode.

    Attributes
    ----------
    path : str. The file, or folder of a DICOM series.
    kind : str. Its format; "dicom-index" for what lies in a folder (:mod:`core.imaging.dicom_index`); or
        "dicom-writer", which writes a segmentation (:mod:`core.imaging.dicom_writer`).
    folder : str. An empty folder for the result.
    """

    path: str
    kind: str
    folder: str


def main() -> int:
    """Answer requests until standard input ends, or for :data:`IDLE_S` none comes."""
    responses = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no response
    while _is_asked(sys.stdin):
        line = sys.stdin.readline()
        if not line:
            break
        request: Request = json.loads(line)
        responses.write(json.dumps(_answer(request)) + "\n")
        responses.flush()
    return 0


def _answer(request: Request) -> dict[str, str]:
    """Decode; the response is an error, or empty."""
    path = Path(request["path"])
    _limit_memory(0)
    try:
        _fulfil(path, request["kind"], Path(request["folder"]))
    except VolumeError as error:
        return {"error": re.sub(r"[\x00-\x1f\x7f]+", " ", str(error))}  # text of a file may hold any character
    except ImportError as error:
        return {"error": f"{path}: expected {error.name} for this format, it is not installed: {FORMATS_PIP}"}
    except MemoryError:
        return {"error": f"{path}: decoding it takes more memory than its header implies; is it damaged?"}
    except OSError as error:
        return {"error": f"{path}: cannot be decoded: {error.strerror or error}"}
    except Exception as error:  # noqa: BLE001 - a damaged file may raise any exception in a library
        text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        return {"error": f"{path}: cannot be decoded ({text}); the file is damaged or of another format"}
    finally:
        _limit_memory(None)
    return {}


def _fulfil(path: Path, kind: str, folder: Path) -> None:
    """Do what a request asks for."""
    from core.imaging.dicom_index import write_index
    from core.imaging.dicom_reader import read_dicom
    from core.imaging.dicom_writer import write_segmentation
    from core.imaging.volume_readers import read_metaimage, read_mgh, read_nrrd

    if kind == "dicom-index":
        write_index(path, folder)
        return
    if kind == "dicom-writer":
        write_segmentation(path, folder, _limit_memory)
        return
    readers = {"mgh": read_mgh, "nrrd": read_nrrd, "metaimage": read_metaimage, "dicom": read_dicom}
    image, voxels = readers[kind](path, _limit_memory)
    _limit_memory(2 * voxels.nbytes)
    image.write(folder, voxels)


def _limit_memory(nbytes: int | None) -> None:
    """Limit the further memory of this process to ``BASE_BYTES + nbytes``, on Linux; ``None``: no limit."""
    if sys.platform != "linux":
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if nbytes is None:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = used + BASE_BYTES + nbytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _is_asked(stdin: IO[str]) -> bool:
    """Wait for a request; whether one came, or the end of the input."""
    if sys.platform == "win32":
        return True
    return bool(select.select([stdin], [], [], IDLE_S)[0])


if __name__ == "__main__":
    raise SystemExit(main())
