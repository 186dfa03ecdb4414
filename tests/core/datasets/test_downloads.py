"""Downloads: resumed, verified, unpacked, moved as a whole; what goes wrong is said, and nothing is fetched twice."""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import json
import re
import shutil
import ssl
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.cli import data_download, main
from core.datasets import downloads, resumed_download
from core.datasets.downloads import FOLDER, Download, DownloadFile, download, known_downloads
from core.datasets.publisher_sets import sets_to_register
from core.datasets.resumed_download import fetch
from core.errors import DatasetError
from core.file_locks import try_lock
from tests.support.ports import free_port
from tests.support.range_server import ServedFile, serve


def tar(*entries: tuple[str, bytes], link: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return packed.getvalue()


CONTENT = tar(
    ("Task99_Test/dataset.json", b"{}"),
    ("Task99_Test/imagesTr/a.nii", bytes(range(256)) * 400),
    ("Task99_Test/imagesTr/._a.nii", b"of the system"),
)


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def of(served: ServedFile, checksum: str = "") -> Download:
    file = DownloadFile(served.url, checksum)
    return Download("test", "Test", "CC0", "http://127.0.0.1/", 0.1, "Task99_Test", (file,))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedFile]:
    monkeypatch.setattr(resumed_download, "SPARE_BYTES", 0)
    monkeypatch.setattr(downloads, "SPARE_BYTES", 0)
    with serve(CONTENT) as found:
        yield found


def test_data_set_appears_as_a_whole_with_what_systems_add_left_out(served: ServedFile, tmp_path: Path) -> None:
    steps: list[tuple[float, int, str]] = []
    folder = download(
        of(served, md5(CONTENT)), tmp_path, lambda done, total, text="", /: steps.append((done, total, text))
    )
    assert folder == tmp_path / "Task99_Test"
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "dataset.json",
        "imagesTr/a.nii",
    ]
    assert (folder / "imagesTr" / "a.nii").read_bytes() == bytes(range(256)) * 400
    assert steps[-3:] == [(len(CONTENT), len(CONTENT), text) for text in ("", "verifying", "unpacking")]
    assert not list((tmp_path / FOLDER).iterdir()), "nothing is left behind"


def test_connection_that_is_cut_off_goes_on_where_it_ended(served: ServedFile, tmp_path: Path) -> None:
    served.cut_after = [1000, 5000]
    fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT
    assert served.asked == ["", "bytes=1000-", "bytes=6000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["file.tar"]


def test_attempt_that_ended_is_continued_by_the_next_one(served: ServedFile, tmp_path: Path) -> None:
    served.cut_after = [2000] + [0] * 5
    with pytest.raises(DatasetError, match=r"lost 6 times in a row .* are kept: begin again later"):
        fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert not (tmp_path / "file.tar").exists()
    fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert served.asked[-1] == "bytes=2000-" and (tmp_path / "file.tar").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "failure", [OSError(errno.EHOSTUNREACH, "no route"), ssl.SSLError("bad record")], ids=["route", "TLS"]
)
def test_connection_that_fails_while_it_is_read_is_made_again(
    served: ServedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError
) -> None:
    read1, failures = http.client.HTTPResponse.read1, [failure]

    def read_or_fail(response: http.client.HTTPResponse, n: int = -1) -> bytes:
        if failures:
            raise failures.pop()
        return read1(response, n)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read_or_fail)
    fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT and len(served.asked) == 2


def test_busy_server_is_asked_again(served: ServedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.status = 429
    monkeypatch.setattr(time, "sleep", lambda _: setattr(served, "status", 200))
    fetch(served.url, tmp_path / "file.tar")
    assert (tmp_path / "file.tar").read_bytes() == CONTENT and len(served.asked) == 2


def test_parts_of_two_versions_are_never_joined(served: ServedFile, tmp_path: Path) -> None:
    served.cut_after = [2000] + [0] * 5
    with pytest.raises(DatasetError):
        fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    served.content, served.tag = CONTENT[::-1], '"v2"'
    fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("fault", ["no ranges", "no version"])
def test_server_that_cannot_continue_is_asked_for_all_again(served: ServedFile, tmp_path: Path, fault: str) -> None:
    served.cut_after = [3000]
    served.ranges = fault != "no ranges"
    served.tag = "" if fault == "no version" else served.tag
    fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT and len(served.asked) == 2


def test_part_that_is_longer_than_the_file_is_replaced(served: ServedFile, tmp_path: Path) -> None:
    (tmp_path / "file.tar.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.tar.part.json").write_text(json.dumps({"version": '"v1"', "total": None}))
    fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert (tmp_path / "file.tar").read_bytes() == CONTENT


def test_file_without_a_stated_size_is_received(served: ServedFile, tmp_path: Path) -> None:
    served.states_length = False
    fetch(served.url, tmp_path / "file.tar")
    assert (tmp_path / "file.tar").read_bytes() == CONTENT


def test_wrong_checksum_is_refused_and_the_file_removed(served: ServedFile, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"expected a file with the MD5 {md5(b'x')[4:]}, got {md5(CONTENT)[4:]}"):
        download(of(served, md5(b"x")), tmp_path)
    assert not (tmp_path / "Task99_Test").exists() and not list(tmp_path.rglob("*.tar"))
    assert download(of(served, md5(CONTENT)), tmp_path).is_dir()


def test_full_disk_is_said_before_anything_is_received(
    served: ServedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(CONTENT) // 2))
    with pytest.raises(DatasetError, match=r"expected room for .* more, got too little on this disk"):
        download(of(served), tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(resumed_download, "SPARE_BYTES", 0)
    monkeypatch.setattr(downloads, "SPARE_BYTES", 0)
    assert download(of(served), tmp_path).is_dir()


def test_error_without_a_connection_names_where_to_put_the_file(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/Task99_Test.tar"
    place = tmp_path / "Task99_Test.tar"
    with pytest.raises(
        DatasetError, match=rf"cannot be reached .* no connection to the internet.* copy it to {re.escape(str(place))}"
    ):
        fetch(url, place, retry_wait_s=0.0)


def test_file_that_was_copied_there_is_verified_and_not_fetched(served: ServedFile, tmp_path: Path) -> None:
    place = tmp_path / FOLDER / "test" / "Task99_Test.tar"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert download(of(served, md5(CONTENT)), tmp_path).is_dir() and served.asked == []


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [(404, "x/y", "got the answer 404"), (200, "text/html; charset=utf-8", "got a web page")],
)
def test_answers_that_are_no_file_are_named(
    served: ServedFile, tmp_path: Path, status: int, content_type: str, text: str
) -> None:
    served.status, served.content_type = status, content_type
    with pytest.raises(DatasetError, match=text):
        fetch(served.url, tmp_path / "file.tar", retry_wait_s=0.0)
    assert len(served.asked) == 1, "it is not tried again"


@pytest.mark.parametrize(
    "content",
    [
        tar(("../outside", b"x")),
        tar(("/outside", b"x")),
        tar(("a/b", b"x"), link="a/link"),
        CONTENT[:3000],
        b"no archive",
    ],
    ids=["parent", "absolute", "link", "cut off", "text"],
)
def test_unsafe_and_damaged_archives_are_refused(served: ServedFile, tmp_path: Path, content: bytes) -> None:
    served.content = content
    root = tmp_path / "data"
    with pytest.raises(DatasetError, match=r"Task99_Test\.tar: "):
        download(of(served), root)
    assert not (root / "Task99_Test").exists() and not list(tmp_path.rglob("outside"))


def test_zip_archives_go_into_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumed_download, "SPARE_BYTES", 0)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.nii", b"x")
    with serve(packed.getvalue(), "images.zip") as served:
        wanted = Download("t", "T", "CC0", "", 0.1, "set", (DownloadFile(served.url, md5(served.content), "images"),))
        assert (download(wanted, tmp_path) / "images" / "a.nii").read_bytes() == b"x"


def test_second_process_and_a_taken_name_are_refused(served: ServedFile, tmp_path: Path) -> None:
    folder = tmp_path / FOLDER / "test"
    folder.mkdir(parents=True)
    with open(folder / "lock", "a+b") as lock:
        assert try_lock(lock)
        with pytest.raises(DatasetError, match="another process downloads it"):
            download(of(served), tmp_path)
    (tmp_path / "Task99_Test").mkdir()
    with pytest.raises(DatasetError, match="is the data set there already"):
        download(of(served), tmp_path)
    assert served.asked == []


def test_known_downloads_state_licence_source_and_checksum() -> None:
    assert len(known_downloads()) >= 13
    for found in known_downloads().values():
        assert found.licence and found.source.startswith("http") and found.size_gb > 0, found.name
        for file in found.files:
            kind, _, digits = file.checksum.partition(":")
            assert len(digits) == {"md5": 32, "sha256": 64}[kind], f"{file.url} is verified"
    assert not {s.title for s in sets_to_register()} & {d.title for d in known_downloads().values()}


def test_licence_is_shown_before_anything_is_fetched(
    served: ServedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = of(served, md5(CONTENT))
    monkeypatch.setattr(data_download, "find_download", {"test": wanted}.__getitem__)
    assert main(["data", "download", "test", "--to", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "licence   CC0" in shown and "--accept-licence" in shown and served.asked == []
    assert main(["data", "download", "test", "--to", str(tmp_path), "--accept-licence", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(tmp_path / "Task99_Test")


def test_list_names_what_is_fetched_and_where_to_register(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "download", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "hippocampus" in {d["name"] for d in shown["download"]}
    dhcp = next(s for s in shown["register"] if s["name"] == "dhcp")
    assert dhcp["source"].startswith("https://") and "{case}" in dhcp["files"]
    assert "T1: sub-" in dhcp["files"] and "T2: sub-" in dhcp["files"], "the images of all modalities"
    assert dhcp["labels"].endswith("_dseg.nii[.gz]")
    brats = next(s for s in shown["register"] if s["name"] == "brats2020")
    assert brats["files"].endswith("(t1: T1, t1ce: T1ce, t2: T2, flair: FLAIR)") and "; " in brats["labels"]
    assert not {"bids", "freesurfer"} & {s["name"] for s in shown["register"]}, "they are no data sets"
    assert main(["data", "download"]) == 0
    shown = capsys.readouterr().out
    assert "register" in shown and f"\n  labels  {brats['labels']}\n" in shown
    assert main(["data", "download", "other"]) == 1
    assert "expected one of brain-tumour" in capsys.readouterr().err
