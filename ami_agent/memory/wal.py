"""What a writer that was killed left of SQLite's log beside a memory (sqlite.org/fileformat2.html, section 4)."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import numpy as np

HEADER, FRAME = 32, 24  # bytes before the first frame, and before the page in each
MAGIC = 0x377F0682  # with its last bit set, words are big-endian
LOCKED = 1 << 30  # where a byte that locks lies, in a page that is never written


def unclean(path: Path) -> bool:
    """True if the last writer did not close the memory (or still has it open): part of it is in the log beside it."""
    wal = Path(f"{path}-wal")
    return wal.exists() and wal.stat().st_size > 0


def lost_pages(path: Path, pages: int, size: int) -> list[int]:
    """Which of a memory's `pages`, of `size` bytes each, are neither in the file nor in the log: it was cut short."""
    there = path.stat().st_size // size
    if there >= pages:
        return []
    logged = set()
    with open(f"{path}-wal", "rb") as log:
        log.seek(HEADER)
        while len(frame := log.read(FRAME)) == FRAME:
            logged.add(int.from_bytes(frame[:4], "big"))
            log.seek(size, 1)
    logged.add(LOCKED // size + 1)
    return [page for page in range(there + 1, pages + 1) if page not in logged]


def lost_commits(path: Path) -> int:
    """How many commits stand in the log beyond a frame that is damaged: there SQLite stops reading, without a word.

    After a power cut these may be some that were not on the disk yet; after `kill -9`, one that was being written.
    """
    log = _read(Path(f"{path}-wal"))
    if len(log) < HEADER + FRAME:
        return 0
    header = log[:HEADER].view(">u4")
    size = _page_size(path)
    frames = log[HEADER : HEADER + (len(log) - HEADER) // (FRAME + size) * (FRAME + size)].reshape(-1, FRAME + size)
    if not len(frames):
        return 0
    heads = np.ascontiguousarray(frames[:, :FRAME]).view(">u4")  # page, pages after a commit, two salts, two sums
    order = ">u4" if header[0] & 1 else "<u4"
    total = _sums(np.zeros(2, np.uint32), log[None, :24].copy().view(order))[0]
    sound = header[0] & ~np.uint32(1) == MAGIC and (total == header[6:8]).all()
    salts = header[4:6] if sound else heads[0, 2:4]
    ours = (heads[:, 2:4] == salts).all(1)
    summed = np.concatenate([frames[:, :8], frames[:, FRAME:]], 1).view(order)
    good = ours & (_sums(total, summed) == heads[:, 4:6]).all(1) & sound
    end = len(good) if good.all() else int(good.argmin())
    return int((ours & (heads[:, 1] > 0))[end:].sum())


def set_aside(path: Path) -> Path:
    """Keep a copy of a memory's log, on the disk, beside it; where."""
    names = (Path(f"{path}-wal.damaged{f'-{n}' if n > 1 else ''}") for n in itertools.count(1))
    copy = next(name for name in names if not name.exists())
    shutil.copyfile(f"{path}-wal", copy)
    sync(copy)
    sync(copy.parent)
    return copy


def sync(path: Path) -> None:
    """Put a file, or what was renamed in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(log: Path) -> np.ndarray:
    """The bytes of a log, (n,) uint8; none without one. Where a writer begins it anew meanwhile: read again."""
    while True:
        try:
            found = np.fromfile(log, np.uint8)
            with log.open("rb") as file:
                if file.read(HEADER) == found[:HEADER].tobytes():
                    return found
        except FileNotFoundError:
            return np.empty(0, np.uint8)


def _page_size(path: Path) -> int:
    """As the memory's own header has it, which `judge` has seen; that of the log may be what is damaged."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    return 65536 if size == 1 else size


def _sums(first: np.ndarray, words: np.ndarray) -> np.ndarray:
    """SQLite's running checksum (2,) uint32 after each row of words (F, W), W even, from `first` on, (F, 2).

    A pair (x, y) takes (a, b) to (a + b + x, a + 2 b + x + y): a matrix of Fibonacci numbers, whose powers are known
    beforehand; all modulo 2**32.
    """
    x, y = words[:, ::2].astype(np.uint32), words[:, 1::2].astype(np.uint32)
    fibonacci = [1, 0]
    for _ in range(2 * x.shape[1] + 1):
        fibonacci.append((fibonacci[-1] + fibonacci[-2]) % 2**32)
    powers = np.array(fibonacci, np.uint32)  # of index k - 1: (k-th power is [f(2k-1), f(2k)], [f(2k), f(2k+1)])
    k = 2 * np.arange(x.shape[1])[::-1]
    low, mid, high = powers[k], powers[k + 1], powers[k + 2]
    added = np.stack([x @ low + (x + y) @ mid, x @ mid + (x + y) @ high], 1)
    whole = powers[2 * x.shape[1] + np.array([[0, 1], [1, 2]])]
    found, state = np.empty((len(words), 2), np.uint32), first
    for row, more in enumerate(added):
        state = found[row] = whole @ state + more
    return found
