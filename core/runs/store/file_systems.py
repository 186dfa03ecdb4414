"""Types of file systems: SQLite in WAL mode needs memory shared between processes, which network file systems lack."""

from __future__ import annotations

import os
from pathlib import Path

NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2",
    "ncpfs", "davfs", "orangefs", "ocfs2", "gfs2", "wekafs", "panfs", "virtiofs", "vboxsf", "prl_fs", "acfs",
}  # fmt: skip
LOCAL_FUSE = {
    "fuse.bindfs", "fuse.mergerfs", "fuse.encfs", "fuse.gocryptfs", "fuse.cryfs", "fuse.securefs", "fuse.ntfs-3g",
    "fuse.ntfs", "fuse.exfat", "fuse.fuse-overlayfs", "fuse.ext2", "fuse.apfs-fuse", "fuse.veracrypt",
}  # fmt: skip
INDEX_FOLDER_VARIABLE = "SEGMENTARIUM_INDEX_FOLDER"
IN_ROOT = "root"  # value of the variable: the index is in its root on any file system


def is_network(kind: str) -> bool:
    """Whether a type of ``/proc/mounts`` is a network file system. An unknown FUSE file system counts as one."""
    return kind in NETWORK_FILE_SYSTEMS or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)


def file_system_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Type of the file system that holds ``path``, as in ``/proc/mounts``; empty where it is unknown."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    target, best, kind = path.expanduser().absolute().resolve(), -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mounted = Path(fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        if target.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), fields[2]
    return kind


def local_index_folder() -> Path:
    """Folder of this machine for the indexes of roots on network file systems: ``SEGMENTARIUM_INDEX_FOLDER``, else
    ``segmentarium/indexes`` in the user's cache."""
    chosen = os.environ.get(INDEX_FOLDER_VARIABLE, "")
    if chosen not in ("", IN_ROOT):
        return Path(chosen).expanduser().absolute()
    if os.name == "nt":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache.expanduser().absolute() / "segmentarium" / "indexes"
