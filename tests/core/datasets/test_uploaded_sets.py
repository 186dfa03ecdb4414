"""Uploads: names are kept, what is unsafe or too large is refused, and a data set appears whole or not at all."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from core.datasets import open_dataset, uploaded_sets
from core.errors import DatasetError
from tests.support.volume_files import make_decathlon


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def zipped(folder: Path, archive: Path) -> bytes:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path(folder.name) / path.relative_to(folder))
        file.writestr("__MACOSX/._a", "of macOS")
    return archive.read_bytes()


def upload(root: Path, name: str, content: bytes) -> Path:
    id = uploaded_sets.begin(root)
    uploaded_sets.receive(root, id, name, [content[:10], content[10:]])
    return uploaded_sets.finish(root, id, name)


def visible(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if not p.name.startswith("."))


def test_an_archive_becomes_a_data_set(root: Path, tmp_path: Path) -> None:
    content = zipped(make_decathlon(tmp_path / "Möhren set"), tmp_path / "a.zip")
    assert open_dataset(upload(root, "a.zip", content)).ids == ("case_001", "case_002", "case_003")
    assert visible(root) == ["Möhren set"]
    assert upload(root, "a.zip", content).name == "Möhren set-2"
    assert list((root / uploaded_sets.FOLDER).iterdir()) == []


def test_several_files_keep_their_folders(root: Path, tmp_path: Path) -> None:
    source = make_decathlon(tmp_path / "set")
    id = uploaded_sets.begin(root)
    for path in source.rglob("*"):
        if path.is_file():
            uploaded_sets.receive(root, id, path.relative_to(source).as_posix(), [path.read_bytes()])
    assert visible(root) == []
    folder = uploaded_sets.finish(root, id, "mine")
    assert folder == root / "mine" and len(open_dataset(folder).ids) == 3


@pytest.mark.parametrize(
    "name",
    ["../a", "/a", "a/../../b", "a\\b", "C:/a", "", "a//b", "./a", "a\0b", "a\nb", "x" * 300],
)
def test_unsafe_names_are_refused(root: Path, tmp_path: Path, name: str) -> None:
    id = uploaded_sets.begin(root)
    with pytest.raises(DatasetError, match="expected"):
        uploaded_sets.receive(root, id, name, [b"x"])
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["../outside.nii", "/tmp/outside.nii", "a/../../outside.nii", "..\\outside.nii"])
def test_archives_that_leave_their_folder_are_refused(root: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        file.writestr(entry, b"x")
    with pytest.raises(DatasetError, match=r"a\.zip"):
        upload(root, "a.zip", (tmp_path / "a.zip").read_bytes())
    assert not list(tmp_path.rglob("outside*")) and visible(root) == []


def test_links_passwords_damage_and_repeated_files_are_refused(root: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="got a link"):
        upload(root, "a.zip", (tmp_path / "link.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a", b"1")
    with pytest.raises(DatasetError, match="another compression: 'a'"):
        upload(root, "a.zip", (tmp_path / "lzma.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as file, pytest.warns(UserWarning):
        file.writestr("a", b"1")
        file.writestr("a", b"2")
    with pytest.raises(DatasetError, match="twice"):
        upload(root, "a.zip", (tmp_path / "twice.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as file:
        file.writestr("a", os.urandom(4000))
    good = bytearray((tmp_path / "good.zip").read_bytes())
    good[1000] ^= 1
    for content in (bytes(good), bytes(good[:2000]), b"nothing"):
        with pytest.raises(DatasetError, match="damaged"):
            upload(root, "a.zip", content)
    good = bytearray((tmp_path / "good.zip").read_bytes())
    good[good.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(DatasetError, match="password"):
        upload(root, "a.zip", bytes(good))
    assert visible(root) == []


def test_bombs_and_what_exceeds_the_limit_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploaded_sets, "ARCHIVE_BOMB_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(3 * 10**6))
    with pytest.raises(DatasetError, match="decompression bomb"):
        upload(root, "a.zip", (tmp_path / "bomb.zip").read_bytes())
    monkeypatch.setenv("SEGMENTARIUM_MAX_UPLOAD_GB", "1e-6")
    with pytest.raises(DatasetError, match="at most"):
        upload(root, "a.zip", (tmp_path / "bomb.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as file:
        file.writestr("a", bytes(800))
    assert (upload(root, "a.zip", (tmp_path / "small.zip").read_bytes()) / "a").stat().st_size == 800
    id = uploaded_sets.begin(root)
    with pytest.raises(DatasetError, match="SEGMENTARIUM_MAX_UPLOAD_GB"):
        uploaded_sets.receive(root, id, "a", [bytes(600), bytes(600)])
    uploaded_sets.receive(root, id, "b", [bytes(600)])
    with pytest.raises(DatasetError, match="at most"):
        uploaded_sets.receive(root, id, "c", [bytes(600)])
    assert [p.name for p in (root / uploaded_sets.FOLDER / id).iterdir()] == ["b"]
    monkeypatch.setattr(uploaded_sets, "MAX_FILES", 1)
    with pytest.raises(DatasetError, match="at most 1 files"):
        uploaded_sets.receive(root, id, "d", [b""])


def test_an_upload_that_breaks_off_leaves_nothing_and_old_ones_are_removed(root: Path) -> None:
    def breaks() -> object:
        yield b"half"
        raise ConnectionResetError

    id = uploaded_sets.begin(root)
    with pytest.raises((DatasetError, ConnectionResetError)):
        uploaded_sets.receive(root, id, "a.nii", breaks())  # type: ignore[arg-type]
    assert list((root / uploaded_sets.FOLDER / id).iterdir()) == []
    uploaded_sets.sweep(root, max_age_s=-1)
    assert list((root / uploaded_sets.FOLDER).iterdir()) == []
    for call in (lambda: uploaded_sets.finish(root, id, "a"), lambda: uploaded_sets.receive(root, "../..", "a", [b""])):
        with pytest.raises(DatasetError, match="that was begun"):
            call()


def test_files_of_several_archives_and_beside_them_count_together(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(archives: int) -> Path:
        id = uploaded_sets.begin(root)
        for n in range(archives):
            with zipfile.ZipFile(tmp_path / "part.zip", "w") as file:
                for k in range(3):
                    file.writestr(f"part{n}/{k}.nii", b"x")
            uploaded_sets.receive(root, id, f"part{n}.zip", [(tmp_path / "part.zip").read_bytes()])
        uploaded_sets.receive(root, id, "readme.txt", [b"x"])
        return uploaded_sets.finish(root, id, "mine")

    monkeypatch.setattr(uploaded_sets, "MAX_FILES", 7)
    assert len([p for p in send(2).rglob("*") if p.is_file()]) == 7
    with pytest.raises(DatasetError, match=r"part1\.zip: expected at most 7 files, got more"):
        send(3)
    assert visible(root) == ["mine"]
