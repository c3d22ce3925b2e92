"""What a writer that was killed left of SQLite's log beside a memory (sqlite.org/fileformat2.html, section 4)."""

from __future__ import annotations

from pathlib import Path

HEADER, FRAME = 32, 24  # bytes before the first frame, and before the page in each
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
