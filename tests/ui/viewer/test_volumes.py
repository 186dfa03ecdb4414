"""URLs of volumes: caching, tokens, and responses that reveal nothing."""

from __future__ import annotations

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import FileResponse

from ui.viewer import volumes


@pytest.fixture(autouse=True)
def own_root(checkpoints: Path) -> Path:
    return checkpoints


def ask(url: str) -> Any:
    token = url.removeprefix(volumes.PREFIX)
    path, _, query = token.partition("?")
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "path_params": {"token": path}}
    return volumes.volume(Request(scope | {"query_string": query.encode()}))


def test_published_volume_is_made_once_and_served_compressed() -> None:
    made = []

    def make() -> tuple[dict[str, Any], bytes]:
        made.append(1)
        return {"shape": [1, 2, 3]}, b"voxels" * 100

    first, again = volumes.publish("a", make), volumes.publish("a", make)
    assert first == again and first[0] == {"shape": [1, 2, 3]} and len(made) == 1
    answer = ask(first[1])
    assert isinstance(answer, FileResponse)
    assert gzip.decompress(Path(answer.path).read_bytes()) == b"voxels" * 100
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    other = volumes.publish("b", lambda: ({}, b"other"))[1]
    assert other != first[1] and len(other) == len(first[1])


def test_volume_that_several_visitors_need_at_once_is_made_once() -> None:
    making, made = Barrier(2), []

    def make() -> tuple[dict[str, Any], bytes]:
        made.append(1)
        making.wait(30)
        return {}, b"voxels"

    with ThreadPoolExecutor(3) as pool:
        visitors = [pool.submit(volumes.publish, "a", make) for _ in range(3)]
        making.wait(30)
        urls = {visitor.result()[1] for visitor in visitors}
    assert len(made) == 1 and len(urls) == 1


def test_volume_on_request_is_made_by_the_first_of_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    making, made = Barrier(2), []

    def make() -> bytes:
        made.append(1)
        making.wait(30)
        return b"voxels"

    url = volumes.publish_on_request("a", make)
    assert not made
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, url) for _ in range(3)]
        making.wait(30)
        contents = {gzip.decompress(Path(answer.result().path).read_bytes()) for answer in answers}
    assert contents == {b"voxels"} and len(made) == 1
    monkeypatch.setattr(volumes, "MAX_MAKERS", 1)
    volumes.publish_on_request("b", lambda: b"b")
    volumes.publish_on_request("c", lambda: b"c")
    assert len(volumes._makers) == 1 and ask(url).status_code == 200, "the first is cached"


def test_what_computes_a_volume_is_stopped_when_asked_for() -> None:
    stopped = []

    def make() -> bytes:
        raise volumes.Pending(0.25)

    url = volumes.publish_on_request("stopped", make, stop=lambda: stopped.append(1))
    answer = ask(url)
    assert answer.status_code == 202 and answer.body == b'{"progress":0.25}'
    for token in (url.removeprefix(volumes.PREFIX), "0" * 32):
        request = Request({"type": "http", "method": "DELETE", "path_params": {"token": token}, "query_string": b""})
        assert volumes.volume(request).status_code == 204
    assert stopped == [1]


def test_url_does_not_contain_the_name_and_wrong_tokens_are_404() -> None:
    url = volumes.publish("subject-1", lambda: ({}, b"x"))[1]
    assert "subject" not in url
    for wrong in ("", "0" * 32, "../../etc/passwd", url.removeprefix(volumes.PREFIX)[:-1]):
        assert ask(volumes.PREFIX + wrong).status_code == 404


def test_removed_volume_is_404_until_it_is_published_again() -> None:
    url = volumes.publish("a", lambda: ({}, b"x"))[1]
    Path(ask(url).path).unlink()
    assert ask(url).status_code == 404
    assert volumes.publish("a", lambda: ({}, b"y"))[1] == url
    assert gzip.decompress(Path(ask(url).path).read_bytes()) == b"y"


def test_least_recently_used_volumes_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [volumes.publish(name, lambda: ({}, os.urandom(1000)))[1] for name in "abc"]
    paths = [Path(ask(url).path) for url in urls]
    for age, path in zip((300, 100, 200), paths, strict=True):
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(volumes, "MAX_CACHE_BYTES", 2500)
    volumes.publish("d", lambda: ({}, b"x"))
    assert [path.exists() for path in paths] == [False, True, True]


def test_unwritable_cache_is_a_user_error(own_root: Path) -> None:
    (own_root / ".cache").write_text("a file where a folder should be")
    with pytest.raises(volumes.CacheWriteError, match="make room"):
        volumes.publish("a", lambda: ({}, b"x"))


def test_volumes_in_memory_have_identical_headers_until_withdrawn() -> None:
    zeros, noise = volumes.publish_in_memory(bytes(5000)), volumes.publish_in_memory(os.urandom(5000))
    assert zeros != noise and zeros != volumes.publish_in_memory(bytes(5000))
    answers = [ask(zeros), ask(noise)]
    assert dict(answers[0].headers) == dict(answers[1].headers)
    assert answers[0].headers["cache-control"] == "no-store" and answers[0].headers["content-length"] == "5000"
    assert not {"etag", "last-modified"} & set(answers[0].headers)
    volumes.withdraw(zeros)
    volumes.withdraw(zeros)
    assert ask(zeros).status_code == 404 and ask(noise).status_code == 200


def test_intensities_count_for_the_limit_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    url = volumes.publish_intensities("a", lambda: np.arange(1000, dtype="<f4").tobytes())
    assert np.frombuffer(ask(f"{url}?at=3,999").body, "<f4").tolist() == [3, 999]
    monkeypatch.setattr(volumes, "MAX_CACHE_BYTES", 3000)
    volumes.publish("b", lambda: ({}, b"x"))
    assert ask(f"{url}?at=3").status_code == 404


def test_intensities_in_memory_are_served_one_by_one() -> None:
    url = volumes.publish_in_memory(np.arange(10, dtype="<f4").tobytes())
    assert np.frombuffer(ask(f"{url}?at=9").body, "<f4").tolist() == [9]
    assert ask(f"{url}?at=10").status_code == 400
    volumes.withdraw(url)
    assert ask(f"{url}?at=9").status_code == 404


def test_number_of_volumes_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "MAX_IN_MEMORY", 3)
    urls = [volumes.publish_in_memory(bytes([n])) for n in range(5)]
    assert [ask(url).status_code for url in urls] == [404, 404, 200, 200, 200]
