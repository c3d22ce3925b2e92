"""Files that are whole or absent: written aside, synced, renamed; and what a disk refuses, said with its cure."""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from ami_agent.errors import MissingError, ResourceError

FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While writing `path`: a full disk is a ResourceError, a folder that refuses is a MissingError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(f"no room left on the disk of {path}; free some or choose another folder") from error
        reason = (error.strerror or "refused").lower()
        raise MissingError(f"cannot write {path}: {reason}; choose a folder you may write") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write `data` and wait until the disk has it; the name itself is safe only after `sync_folder`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` at once: a reader, or a crash, meets the old file or the new one."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(descriptor)
        aside = Path(name)
        try:
            write_synced(aside, data)
            aside.chmod(0o644)
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def remove_asides(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` left beside it. Nobody may be writing it now."""
    for aside in path.parent.glob(f".{glob.escape(path.name)}-*"):
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`value` (see `plain`) as indented JSON, atomically."""
    write_bytes(path, (json.dumps(plain(value), indent=2, allow_nan=False) + "\n").encode())


def plain(value: Any) -> Any:
    """What JSON can hold: dataclasses, arrays and paths unfolded, NaN and infinity as null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if hasattr(value, "tolist"):  # a numpy or torch value
        return plain(value.tolist())
    return str(value)
