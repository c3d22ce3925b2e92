"""Checkpoints: what is saved comes back, and every fault of a disk is named."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ami_agent import checkpoints, files
from ami_agent.errors import ArtefactError, ResourceError

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "empty": torch.zeros(0, 2),
}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    shared = TENSORS | {"view": TENSORS["weight"].T}
    path = checkpoints.save(tmp_path / "new", shared, {"step": 3, "list": [1, None], "loss": float("nan")})
    tensors, meta = checkpoints.load(tmp_path / "new")
    assert same(tensors, shared)
    assert meta == {"step": 3, "list": [1, None], "loss": None}
    assert same(checkpoints.load(path)[0], shared)


def test_keeps_the_last_two(tmp_path: Path) -> None:
    for step in range(5):
        checkpoints.save(tmp_path, TENSORS, {"step": step})
    assert names(tmp_path) == ["ckpt-000004", "ckpt-000005"]
    assert checkpoints.load(tmp_path)[1] == {"step": 4}


def flip(path: Path, offset: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def damage(path: Path, how: str) -> None:
    """Do to the checkpoint folder `path` what the test is named after."""
    tensors, meta = path / checkpoints.TENSORS, path / checkpoints.META
    match how:
        case "tensors missing":
            tensors.unlink()
        case "tensors empty":
            tensors.write_bytes(b"")
        case "tensors truncated":
            tensors.write_bytes(tensors.read_bytes()[:-5])
        case "tensors flipped":
            flip(tensors)
        case "tensors pickled":
            torch.save({"a": 1}, tensors, _use_new_zipfile_serialization=False)
        case "tensors zipped":
            torch.save({"a": 1}, tensors)
        case "meta missing":
            meta.unlink()
        case "meta garbage":
            meta.write_bytes(b"\xff{]")
        case "meta not an object":
            meta.write_text("[1]")
        case "meta nested":
            meta.write_text("[" * 100_000)
        case "meta changed":
            meta.write_text(meta.read_text().replace('"step": 1', '"step": 9'))
        case "format missing":
            meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": "²"}))


FAULTS = {
    "tensors missing": "cannot be read",
    "tensors empty": "is empty",
    "tensors truncated": "checksum",
    "tensors flipped": "checksum",
    "tensors pickled": "could run code",
    "tensors zipped": "could run code",
    "meta missing": "cannot be read",
    "meta garbage": "not JSON",
    "meta not an object": "not JSON",
    "meta nested": "not JSON",
    "meta changed": "checksum",
    "format missing": "no format version",
}


@pytest.mark.parametrize("how", FAULTS)
def test_damage_falls_back_and_says_so(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints.save(tmp_path, TENSORS, {"step": 0})
    damage(checkpoints.save(tmp_path, TENSORS, {"step": 1}), how)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load(tmp_path)[1] == {"step": 0}
    assert "ckpt-000002" in caplog.text and FAULTS[how] in caplog.text
    damage(tmp_path / "ckpt-000001", how.replace("changed", "missing"))
    with pytest.raises(ArtefactError, match="no intact checkpoint"):
        checkpoints.load(tmp_path)


def test_newer_format_is_said(tmp_path: Path) -> None:
    meta = checkpoints.save(tmp_path, TENSORS, {}) / checkpoints.META
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": checkpoints.FORMAT + 1}))
    with pytest.raises(ArtefactError, match="upgrade"):
        checkpoints.load(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no checkpoint in"):
        checkpoints.load(tmp_path / "absent")


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_full_disk_leaves_the_old_one(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(tmp_path, TENSORS, {"step": 0})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((files.os, "fsync") if call == "fsync" else (Path, "rename")), full)
        with pytest.raises(ResourceError, match="no room"):
            checkpoints.save(tmp_path, TENSORS, {"step": 1})
    assert names(tmp_path) == ["ckpt-000001"]
    assert checkpoints.load(tmp_path)[1] == {"step": 0}


SAVER = """
import sys, torch
from ami_agent import checkpoints
print("ready", flush=True)
for step in range(10**6):
    checkpoints.save(sys.argv[1], {"w": torch.full((300_000,), float(step))}, {"step": step})
    print(step, flush=True)
"""


def test_kill_while_saving_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Ten kills at ten moments; each time the last step that was reported as saved is there."""
    for kill in range(10):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != "ready\n":
            pytest.fail("the saver did not start")
        process.stdout.readline()  # one is saved
        time.sleep(0.004 * kill)
        process.kill()
        acknowledged = max([0, *map(int, process.stdout.read().split())])
        process.wait()
        tensors, meta = checkpoints.load(tmp_path)
        assert meta["step"] >= acknowledged
        assert torch.equal(tensors["w"], torch.full((300_000,), float(meta["step"])))
    (tmp_path / f".aside-{process.pid}-x").mkdir()
    (tmp_path / f".aside-{os.getppid()}-x").mkdir()
    checkpoints.save(tmp_path, TENSORS, {})
    assert [name for name in names(tmp_path) if name.startswith(".")] == [f".aside-{os.getppid()}-x"]


def test_single_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "pretrained" / "reach.safetensors"
    checkpoints.save_file(path, TENSORS, {"environment": "ami/Reach-v0", "step": 5})
    tensors, meta = checkpoints.load_file(path)
    assert same(tensors, TENSORS) and meta == {"environment": "ami/Reach-v0", "step": 5}
    assert names(path.parent) == ["reach.safetensors"]


def test_single_file_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoints.save_file(path, {"w": torch.arange(4.0)}, {"step": 5})
    data = path.read_bytes()
    for offset in range(len(data)):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
        try:
            tensors, meta = checkpoints.load_file(path)
        except ArtefactError:
            continue
        assert torch.equal(tensors["w"], torch.arange(4.0)) and meta == {"step": 5}, offset


@pytest.mark.parametrize(
    ("data", "say"),
    [
        (b"", "empty"),
        (b"short", "cut short"),
        (b"\xff" * 64, "cut short"),
        (b"PK\x03\x04" + b"0" * 60, "could run code"),
    ],
)
def test_single_file_faults(data: bytes, say: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(ArtefactError, match=say):
        checkpoints.load_file(tmp_path / "w")
    with pytest.raises(ArtefactError, match="cannot be read"):
        checkpoints.load_file(tmp_path / "absent")
