"""Episodes that tell nothing which another one does not: lived moment by moment where that one was lived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

TRIES = 8  # kept episodes, the nearest by their ends, that one is compared with moment by moment


@dataclass(frozen=True, slots=True)
class Ends:
    """Where an episode began and ended, in the latents of one encoder."""

    id: int
    kind: tuple  # encoder, environment, task and outcome: only episodes of one kind are ever alike
    ends: np.ndarray  # (2, D): its first and its last latent
    stride: float  # median latent distance between its successive moments


def duplicates(episodes: Sequence[Ends], latents: Callable[[int], np.ndarray], near: float) -> list[int]:
    """Ids of those covered by another that stays, in the order given, in which each yields to those before it.

    One is covered by another of its kind if all its moments, in order, lie within `near` times the typical stride of
    their kind from moments of the other, the first from its first and the last from its last: then either may stand
    for the other, as a start and as a goal. Only pairs whose ends are near are looked at in full.

    Args:
        episodes: of any kinds.
        latents: id -> (T+1, D), read only where ends are near.
        near: in strides.
    """
    kinds: dict[tuple, list[Ends]] = {}
    for episode in episodes:
        kinds.setdefault(episode.kind, []).append(episode)
    found = set()
    for alike in kinds.values():
        if len(alike) > 1:
            found |= _covered(alike, latents, near * float(np.median([episode.stride for episode in alike])))
    return [episode.id for episode in episodes if episode.id in found]


def _covered(episodes: list[Ends], latents: Callable[[int], np.ndarray], reach: float) -> set[int]:
    """Ids of those of one kind that are covered by one before them which is not."""
    ends = np.stack([episode.ends for episode in episodes]).astype(np.float64)
    line = _line(ends.reshape(len(ends), -1))
    # Both ends within reach: together they are within sqrt(2) of it, and so is each projection.
    room = np.sqrt(2) * reach + 1e-9 * float(np.ptp(line))
    covered = set()
    places, kept = np.empty(0), np.empty(0, np.int64)  # of those so far that are not covered, along the line
    for i, place in enumerate(line):
        others = kept[places.searchsorted(place - room) : places.searchsorted(place + room, "right")]
        apart = np.linalg.norm(ends[others] - ends[i], axis=-1).max(-1)
        others, apart = others[apart <= reach], apart[apart <= reach]
        nearest = others[np.lexsort((others, apart))][:TRIES]
        if any(covers(latents(episodes[j].id), latents(episodes[i].id), reach) for j in nearest):
            covered.add(episodes[i].id)
        else:
            at = places.searchsorted(place)
            places, kept = np.insert(places, at, place), np.insert(kept, at, i)
    return covered


def _line(points: np.ndarray) -> np.ndarray:
    """(n, D) -> (n,): along the direction in which the points differ most, no further apart than they are."""
    centred = points - points.mean(0)
    return centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]


def covers(one: np.ndarray, other: np.ndarray, reach: float) -> bool:
    """Whether each latent of `other` (T+1, D) lies within `reach` of one of `one` (S+1, D), in order, ends at ends."""
    a, b = other.astype(np.float64), one.astype(np.float64)
    squared = (a**2).sum(-1)[:, None] + (b**2).sum(-1) - 2 * a @ b.T
    near = squared <= reach**2 + 1e-12 * max(1.0, float(np.abs(squared).max()))
    if not (near[0, 0] and near[-1, -1]):
        return False
    at = 0
    for row in near:  # the earliest moment that fits leaves most to those that follow
        ahead = int(row[at:].argmax())
        if not row[at + ahead]:
            return False
        at += ahead
    return True
