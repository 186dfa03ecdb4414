"""Limits that environment variables set."""

from __future__ import annotations

import pytest

from core.errors import DatasetError, VolumeError
from core.size_limits import SizeLimit

GB = SizeLimit("A_LIMIT", 3, "GB", DatasetError)
BYTES = SizeLimit("A_LIMIT", 3, "bytes", VolumeError, may_be_zero=True)


def test_a_limit_is_read_in_its_unit_with_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_LIMIT", raising=False)
    assert (GB.nbytes(), BYTES.nbytes()) == (3 * 10**9, 3)
    monkeypatch.setenv("A_LIMIT", " 2.5 ")
    assert GB.nbytes() == 2_500_000_000
    monkeypatch.setenv("A_LIMIT", "9007199254740993")
    assert BYTES.nbytes() == 2**53 + 1


@pytest.mark.parametrize(
    ("limit", "text", "expected"),
    [
        *((GB, text, "a number of GB above 0") for text in ("much", "0", "-1", "inf", "nan")),
        *((BYTES, text, "a whole number of bytes") for text in ("a lot", "2.5", "-1")),
    ],
)
def test_what_is_no_limit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, limit: SizeLimit, text: str, expected: str
) -> None:
    monkeypatch.setenv("A_LIMIT", text)
    with pytest.raises(limit.error, match=f"A_LIMIT: expected {expected}, got '{text}'"):
        limit.nbytes()
