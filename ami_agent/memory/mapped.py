"""Arrays in a file that is mapped, not read: each block of it is checked by its checksum when it is first used.

The file: the arrays, each at a multiple of 64 bytes; the CRC-32 of each of their blocks; a JSON header; a digest of
checksums and header; the header's length; the magic number. What is told at the end is told only when all is written.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ami_agent.memory.rows import Rows

MAGIC = b"AMIINDEX"
ALIGN = 64
BLOCK = 1 << 15  # bytes under one checksum: what a first look at a row costs, some 20 us
TRAILER = 16 + 8 + len(MAGIC)
KINDS = "iuf"
STALE = 3600.0  # seconds since anything was written to a file that is not whole: its process was killed

Pieces = tuple[np.dtype | type, tuple[int, ...], Iterable[np.ndarray]]  # an array's dtype and shape, and its bytes


@dataclass(frozen=True)
class MappedFile:
    header: dict[str, Any]
    arrays: dict[str, Mapped]
    name: str  # of this very file, while it is open, whatever takes its place in the folder

    def array(self, name: str, dtype: type, *shape: int) -> Mapped:
        """The array of that name; -1 stands for any length. Raises DamagedIndex if it is missing, or another."""
        found = self.arrays.get(name)
        if found is None or found.dtype != dtype or len(found.shape) != len(shape):
            raise DamagedIndex(f"{name!r} is not what it should be")
        if any(expected not in (-1, came) for expected, came in zip(shape, found.shape, strict=True)):
            raise DamagedIndex(f"{name!r} has shape {found.shape}, {shape} expected")
        return found


class DamagedIndex(Exception):
    """The file is not what was written. It is a cache: make it anew."""


class Mapped:
    """An array of a file, read-only; raises DamagedIndex where a part that is asked for fails its checksum."""

    def __init__(self, array: np.ndarray, sums: np.ndarray) -> None:
        self._array, self._sums = array, sums
        self._bytes = array.reshape(-1).view(np.uint8)
        self._stride = array[:1].nbytes or 1  # bytes of a row
        self._seen = np.zeros(len(sums), bool)  # blocks that were checked

    def __len__(self) -> int:
        return len(self._array)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    def all(self) -> np.ndarray:
        """A copy of everything."""
        self.check(np.zeros(1, np.int64), np.array([len(self)]))
        return self._array.copy()

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """A copy of rows, any shape of integers."""
        self.check(rows.ravel(), rows.ravel() + 1)
        return self._array[rows]

    def check(self, start: np.ndarray, end: np.ndarray) -> None:
        """Check what has not been checked of the rows from each start (n,) to each end (n,)."""
        first, last = start * self._stride // BLOCK, -(-end * self._stride // BLOCK)
        most = int((last - first).max(initial=0))
        blocks = first[:, None] + np.arange(most)
        blocks = blocks[blocks < last[:, None]]
        for block in np.unique(blocks[~self._seen[blocks]]).tolist():
            if zlib.crc32(self._bytes[block * BLOCK : (block + 1) * BLOCK].data) != self._sums[block]:
                raise DamagedIndex(f"bad checksum of its block {block}")
            self._seen[block] = True


class Table:
    """Rows that grow: those of a mapped array, if there is one, and in RAM those that came since."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype | type, base: Mapped | None = None) -> None:
        self._base = base
        self._mapped = 0 if base is None else len(base)  # rows
        self._rows = Rows(shape, dtype)

    def __len__(self) -> int:
        return self._mapped + len(self._rows)

    def append(self, rows: np.ndarray) -> None:
        self._rows.append(rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """rows: integers of any shape -> a copy, (*rows.shape, *shape)."""
        if self._base is None:
            return self._rows.view[rows]
        new = rows >= self._mapped
        if not new.any():
            return self._base[rows]
        view = self._rows.view
        out = np.empty((*rows.shape, *view.shape[1:]), view.dtype)
        out[~new], out[new] = self._base[rows[~new]], view[rows[new] - self._mapped]
        return out

    @property
    def view(self) -> np.ndarray:
        """All rows: not a copy, where none are mapped."""
        return self._rows.view if self._base is None else self[np.arange(len(self))]

    def pieces(self, rows: int = 1 << 14) -> Pieces:
        """For `write`."""
        view, total = self._rows.view, len(self)
        chunks = (self[np.arange(start, min(start + rows, total))] for start in range(0, total, rows))
        return view.dtype, (total, *view.shape[1:]), chunks


def write(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Pieces]) -> None:
    """Replace `path` at once: a reader, or a crash, meets the old file or the new one. Raises OSError."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.new"):
        with suppress(OSError):  # another may be faster
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
    aside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}.new")
    try:
        with open(aside, "xb") as file:
            told, sums = [], []
            for name, (dtype, shape, pieces) in arrays.items():
                file.write(b"\0" * (-file.tell() % ALIGN))
                sums += _stream(file, pieces)
                told.append([name, np.dtype(dtype).str, list(shape)])
            head = json.dumps({**header, "arrays": told}).encode()
            end = np.array(sums, "<u4").tobytes() + head
            file.write(end + _digest(end) + len(head).to_bytes(8, "little") + MAGIC)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _stream(file: Any, pieces: Iterable[np.ndarray]) -> list[int]:
    """Write pieces one behind the other; the checksum of each block of them."""
    sums, sum, room = [], 0, BLOCK
    for piece in pieces:
        data = np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
        file.write(data)
        while len(data):
            part, data = data[:room], data[room:]
            sum, room = zlib.crc32(part, sum), room - len(part)
            if not room:
                sums.append(sum)
                sum, room = 0, BLOCK
    return sums + [sum] * (room < BLOCK)


@contextmanager
def opened(path: Path) -> Iterator[MappedFile]:
    """A file, none of whose arrays is read yet. Raises DamagedIndex, or OSError if there is none."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < TRAILER:
            raise DamagedIndex("it is too short")
        yield MappedFile(*_arrays(np.memmap(file, np.uint8, "r")), f"/dev/fd/{file.fileno()}")


def _arrays(data: np.ndarray) -> tuple[dict[str, Any], dict[str, Mapped]]:
    """Header and arrays of the bytes of a file."""
    trailer = data[-TRAILER:].tobytes()
    length = int.from_bytes(trailer[16:24], "little")
    if not trailer.endswith(MAGIC) or length > len(data) - TRAILER:
        raise DamagedIndex("its end is not that of an index")
    try:
        header = json.loads(data[-TRAILER - length : -TRAILER].tobytes())
        layout = list(_layout(header["arrays"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedIndex(f"its header cannot be read: {error}") from error
    start = max((offset + size for *_, offset, size in layout), default=0)  # of the checksums
    blocks = [-(-size // BLOCK) for *_, size in layout]
    if start + 4 * sum(blocks) + length + TRAILER != len(data):
        raise DamagedIndex(f"it has {len(data)} bytes, its header tells otherwise")
    end = data[start:-TRAILER].tobytes()
    if _digest(end) != trailer[:16]:
        raise DamagedIndex("bad checksum of its header")
    sums, arrays, first = np.frombuffer(end, "<u4", sum(blocks)), {}, 0
    for (name, dtype, shape, offset, size), count in zip(layout, blocks, strict=True):
        array = np.asarray(data[offset : offset + size]).view(dtype).reshape(shape)
        arrays[name] = Mapped(array, sums[first : first + count])
        first += count
    return header, arrays


def _layout(told: list) -> Iterator[tuple[str, np.dtype, list[int], int, int]]:
    """Name, dtype, shape, offset and bytes of each array that a header tells of."""
    end = 0
    for name, code, shape in told:
        dtype = np.dtype(code)
        if dtype.kind not in KINDS or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"{name!r} of dtype {code!r} and shape {shape}")
        offset = end + -end % ALIGN
        size = math.prod(shape) * dtype.itemsize
        end = offset + size
        yield name, dtype, shape, offset, size


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
