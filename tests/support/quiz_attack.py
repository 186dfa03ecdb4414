"""An attack on the blinding of the quiz: a classifier that sees everything the browser receives, but no pictures.

Features are sizes, headers, URLs, order and times of the volumes, bytes, words and times of the websocket messages, and
the page source. The classifier selects the features that correlate best with the side of the truth and fits a logistic
regression to them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from tests.support.quiz_player import Fetched, Observed

BINS = 1024  # of hashed byte trigrams
WORD_BINS = 32768
HEADER_BINS = 64
LAST_FRAMES = 30
MAX_SELECTED = 24  # features
QUESTIONS_PER_FEATURE = 8
PENALTY = 1.0
_WORD = re.compile(rb"[A-Za-z_-]{2,}")


def features(observed: Observed) -> np.ndarray:
    """The feature vector of a question."""
    sides = [_side(observed, observed.side(name)) for name in ("left", "right")]
    compared = [float(observed.left < observed.right), *(sides[0] - sides[1])]
    found = [*sides, np.array(compared), _frames(observed), _texts(observed.source.encode())]
    return np.concatenate(found).astype(np.float32)


def attack(train: Sequence[np.ndarray], left: Sequence[bool], test: Sequence[np.ndarray]) -> np.ndarray:
    """Guesses whether the truth is on the left, for each question of ``test``.

    Parameters
    ----------
    train, test : sequence of ndarray. Feature vectors.
    left : sequence of bool. Whether the truth is on the left, for each question of ``train``.
    """
    x, y = np.stack(train), np.asarray(left, float)
    varies = (x != x[0]).any(0)
    mean, deviation = x[:, varies].astype(float).mean(0), x[:, varies].astype(float).std(0)

    def scaled(rows: np.ndarray) -> np.ndarray:
        return np.clip((rows[:, varies] - mean) / deviation, -5, 5)

    z = scaled(x)
    selected = min(MAX_SELECTED, max(3, len(x) // QUESTIONS_PER_FEATURE))
    best = np.argsort(-np.abs(z.T @ (y - y.mean())), kind="stable")[:selected]
    weights = _logistic(np.column_stack([z[:, best], np.ones(len(z))]), y)
    seen = scaled(np.stack(test))[:, best]
    return np.asarray(np.column_stack([seen, np.ones(len(seen))]) @ weights > 0)


def p_value(guesses: np.ndarray, truth: Sequence[bool]) -> float:
    """Probability that chance guesses at least as many sides correctly."""
    right = int((guesses == np.asarray(truth)).sum())
    return float(binom.sf(right - 1, len(truth), 0.5))


def _logistic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression with an L2 penalty, by Newton's method."""
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (p - y) + PENALTY * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + PENALTY * np.eye(len(weights))
        weights = weights - np.linalg.solve(hessian, gradient)
    return weights


def _side(observed: Observed, volume: Fetched) -> np.ndarray:
    """Features of one segmentation: sizes, times, order, headers, URL."""
    by_end = sorted(observed.volumes, key=lambda v: v.finished_s)
    first = min(v.asked_s for v in observed.volumes)
    numbers = [
        len(volume.body), volume.wire, len(volume.headers), volume.asked_s - first, volume.first_byte_ms,
        volume.last_byte_ms, volume.last_byte_ms - volume.first_byte_ms, volume.finished_s,
        observed.volumes.index(volume), by_end.index(volume),
    ]  # fmt: skip
    headers = np.zeros(HEADER_BINS)
    for place, (name, value) in enumerate(volume.headers):
        for seen in (f"{name}: {value}", f"{place} {name}"):
            headers[zlib.crc32(seen.encode()) % HEADER_BINS] += 1
    token = [int(digit, 16) for digit in volume.url.rpartition("/")[2]]
    return np.array([*numbers, *headers, *token], float)


def _frames(observed: Observed) -> np.ndarray:
    """Features of the websocket messages: number, lengths, times, bytes."""
    last = observed.frames[-LAST_FRAMES:]
    lengths, times = np.zeros(LAST_FRAMES), np.zeros(LAST_FRAMES)
    if last:  # aligned at the end, so that the same message has the same place in questions of fewer messages
        lengths[-len(last) :] = [len(frame) for _, frame in last]
        times[-len(last) :] = [moment for moment, _ in last]
    everything = b"".join(frame for _, frame in observed.frames)
    counts = np.bincount(np.frombuffer(everything, np.uint8), minlength=256)
    whole = [len(observed.frames), len(everything)]
    return np.concatenate([whole, lengths, times, np.diff(times), counts, _texts(everything)])


@lru_cache(maxsize=2048)  # the same recording is attacked repeatedly, each time with another leak
def _texts(data: bytes) -> np.ndarray:
    """Byte trigrams, and the words that occur."""
    words = np.zeros(WORD_BINS, np.float32)
    for word in set(_WORD.findall(data)):
        words[zlib.crc32(word) % WORD_BINS] = 1
    return np.concatenate([_trigrams(data), words])


def _trigrams(data: bytes) -> np.ndarray:
    """Counts of hashed byte trigrams."""
    a = np.frombuffer(data, np.uint8).astype(np.uint32)
    if a.size < 3:
        return np.zeros(BINS, np.float32)
    mixed = (a[:-2] * np.uint32(0x9E3779B1)) ^ (a[1:-1] * np.uint32(0x85EBCA77)) ^ (a[2:] * np.uint32(0xC2B2AE3D))
    return np.bincount((mixed >> np.uint32(16)) % BINS, minlength=BINS).astype(np.float32)
