"""Background job that segments images of one subject with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ui.shared import jobs
from ui.shared.jobs import Job


def start(
    folder: Path,
    checkpoint: Path,
    images: Sequence[Path],
    channels: Sequence[int],
    out: Path,
    options: Sequence[str] = (),
) -> None:
    """Start to segment images, one per modality of the network.

    Parameters
    ----------
    folder : Path. Folder of the job.
    checkpoint : Path. File of the network.
    images : sequence of Path. Image files, one per modality.
    channels : sequence of int. Channel of each image, counted from 1; empty if every file has one channel.
    out : Path. Label map to write.
    options : sequence of str. Further options of ``predict``.
    """
    channel_option = ["--channels", ",".join(map(str, channels))] if channels else []
    files = [str(checkpoint), *map(str, images)]
    jobs.start(folder, ["predict", *files, *channel_option, *options, "--out", str(out), "--json", "--progress"])


def observe(folder: Path, out: Path) -> Job:
    """The state of the job."""
    return jobs.observe(folder, out.is_file())
