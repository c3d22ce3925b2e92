"""Save and load tensors: atomic, checksummed, and without code in the file.

A training run keeps numbered folders ``ckpt-000001`` of ``tensors.safetensors`` and ``meta.json``; shipped weights are
one file whose metadata rides in the safetensors header. A folder has its name only when it is complete on disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from ami_agent.errors import ArtefactError
from ami_agent.files import plain, sync_folder, write_bytes, write_synced, writing

FORMAT = 1
TENSORS, META = "tensors.safetensors", "meta.json"
_NAME = re.compile(r"ckpt-(\d{6,})")
_ASIDE = ".aside-"  # followed by the writer's process id

log = logging.getLogger(__name__)


def save(folder: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], keep: int = 2) -> Path:
    """Write the next ``ckpt-NNNNNN`` in `folder`, then remove all but the last `keep`; returns its path.

    `tensors` may be of any shape, type and device; `meta` is what JSON can hold. Raises ResourceError on a full disk
    and MissingError where writing is refused: what was saved before is then untouched.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        aside = Path(tempfile.mkdtemp(prefix=f"{_ASIDE}{os.getpid()}-", dir=folder))
        try:
            data = _serialize(tensors)
            body = {"format": FORMAT, "meta": plain(meta), "sha256": _digest(data)}
            body["meta_sha256"] = _digest(_canonical(body["meta"]))
            write_synced(aside / TENSORS, data)
            write_synced(aside / META, json.dumps(body, indent=1).encode())
            sync_folder(aside)
            aside.chmod(0o755)
            done = _numbered(folder)
            path = folder / f"ckpt-{_number(done[-1]) + 1 if done else 1:06d}"
            aside.rename(path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_folder(folder)
        for old in [*done, path][:-keep]:
            grave = folder / f"{_ASIDE}{os.getpid()}-{old.name}"  # a half-removed checkpoint must not look whole
            old.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
    return path


def load(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The latest checkpoint in `folder` (or `folder` itself, if it is one) that is intact, on the CPU.

    A damaged one is passed over with a logged warning. Raises ArtefactError if none is intact, with the reason for
    each, or if the latest was written by a newer version.
    """
    folder = Path(folder)
    found = [folder] if _NAME.fullmatch(folder.name) else _numbered(folder)
    if not found:
        raise ArtefactError(f"no checkpoint in {folder}")
    damage: list[str] = []
    for path in reversed(found):
        try:
            result = _load_one(path)
        except _Damaged as error:
            damage.append(f"{path.name}: {error}")
            continue
        if damage:
            log.warning("%s; falling back to %s, the one before", "; ".join(damage), path)
        return result
    raise ArtefactError(f"no intact checkpoint in {folder}: {'; '.join(damage)}")


def save_file(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """Write tensors and meta as one safetensors file, atomically (the form of shipped weights).

    Returns the checksum of what it holds, which is in the file, too; its bytes may stand in any order.
    """
    text = _canonical(plain(meta)).decode()
    digest = _content_digest(_serialize(tensors), text)
    write_bytes(Path(path), _serialize(tensors, {"format": str(FORMAT), "meta": text, "sha256": digest}))
    return digest


def load_file(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_file` wrote; raises ArtefactError if it is missing, damaged or of a newer version."""
    path = Path(path)
    try:
        data = _read(path)
        said = _header(data).get("__metadata__")
        if not isinstance(said, dict) or not isinstance(said.get("meta"), str):
            raise _Damaged("it was not saved by ami-agent, its header has no meta")
        _check_format(said.get("format"), path)
        if _content_digest(data, said["meta"]) != said.get("sha256"):
            raise _Damaged("the checksum does not match, it was changed or cut short")
        return _deserialize(data), _object(said["meta"], "its meta is not JSON")
    except _Damaged as error:
        raise ArtefactError(f"{path}: {error}") from error


class _Damaged(Exception):
    """Why one checkpoint cannot be read."""


def _load_one(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    body = _object(_read(path / META), f"{META} is not JSON")
    _check_format(body.get("format"), path)
    if not isinstance(body.get("meta"), dict) or _digest(_canonical(body["meta"])) != body.get("meta_sha256"):
        raise _Damaged(f"the checksum of {META} does not match")
    data = _read(path / TENSORS)
    if _digest(data) != body.get("sha256"):
        raise _Damaged(f"the checksum of {TENSORS} does not match, it was changed or cut short")
    return _deserialize(data), body["meta"]


def _check_format(value: Any, path: Path) -> None:
    if not re.fullmatch(r"[1-9]\d{0,8}", str(value)):
        raise _Damaged(f"no format version, found {value!r}")
    if int(value) > FORMAT:
        raise ArtefactError(f"{path} has format {value}, this version reads up to {FORMAT}: upgrade ami-agent")


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _Damaged(f"{path.name} cannot be read ({(error.strerror or 'no reason given').lower()})") from error
    if not data:
        raise _Damaged(f"{path.name} is empty")
    if data.startswith((b"\x80", b"PK")) and data[8:9] != b"{":  # a safetensors header may begin so too
        raise _Damaged(f"{path.name} is a dump of Python objects, which could run code and is never loaded")
    return data


def _header(data: bytes) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of its length, then the text."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise _Damaged("it is not a safetensors file, or it was cut short")
    return _object(data[8 : 8 + size], "it is not a safetensors file, or its header was changed")


def _object(text: str | bytes, complaint: str) -> dict[str, Any]:
    """`text` as a JSON object, or damage."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Damaged(complaint) from error
    if not isinstance(value, dict):
        raise _Damaged(complaint)
    return value


def _content_digest(data: bytes, meta: str) -> str:
    """Over names, shapes, types and bytes of the tensors, and the meta text: everything but the digest itself."""
    header = _header(data)
    header.pop("__metadata__", None)
    start = 8 + int.from_bytes(data[:8], "little")
    return _digest(_canonical(header) + meta.encode() + data[start:])


def _serialize(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return dump_tensors(own, metadata)


def _deserialize(data: bytes) -> dict[str, Tensor]:
    try:
        return parse_tensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise _Damaged(f"it is not a safetensors file ({error})") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _number(path)), key=_number)


def _remove_leftovers(folder: Path) -> None:
    """What saves that were killed left aside; a living process keeps its own."""
    for path in folder.glob(f"{_ASIDE}*"):
        owner = path.name.removeprefix(_ASIDE).split("-")[0]
        if owner == str(os.getpid()) or not (owner.isdecimal() and _alive(int(owner))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
