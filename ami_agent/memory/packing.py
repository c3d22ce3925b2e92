"""Episodes to bytes and back, without code in the data: a JSON header, raw arrays, zstd, a checksum beside it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

import numpy as np
import zstandard

from ami_agent.protocols import Episode

LEVEL = 1  # higher levels cost several times the time and gain little on floats
KINDS = "biuf"  # bool, integers, floats: nothing that could hold an object


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays (any shape; bool, integer or float) -> compressed bytes. Raises ValueError for another dtype."""
    header, parts = [], []
    for name, array in arrays.items():
        if array.dtype.kind not in KINDS:
            raise ValueError(f"cannot store {name!r} of dtype {array.dtype}: bool, integer or float expected")
        header.append([name, array.dtype.str, list(array.shape)])
        parts.append(np.ascontiguousarray(array).tobytes())
    head = json.dumps(header).encode()
    return zstandard.ZstdCompressor(level=LEVEL).compress(b"".join([len(head).to_bytes(4, "little"), head, *parts]))


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `pack`: writable arrays. Raises ValueError for bytes that `pack` did not make."""
    try:
        raw = zstandard.ZstdDecompressor().decompress(data)
        offset = 4 + int.from_bytes(raw[:4], "little")
        arrays = {}
        for name, code, shape in json.loads(raw[4:offset]):
            dtype = np.dtype(code)
            if dtype.kind not in KINDS:
                raise ValueError(f"dtype {code!r} is not allowed")
            count = math.prod(shape)
            arrays[name] = np.frombuffer(raw, dtype, count, offset).reshape(shape).copy()
            offset += count * dtype.itemsize
    except (zstandard.ZstdError, TypeError) as error:
        raise ValueError(f"not a packed chunk: {error}") from error
    return arrays


def digest(place: str, data: bytes) -> bytes:
    """16 bytes of blake2b over the data and the place it belongs to, so that swapped chunks are noticed as well."""
    return hashlib.blake2b(place.encode(errors="replace") + b"\0" + data, digest_size=16).digest()


def intact(place: str, data: object, checksum: object) -> bool:
    """Whether data are those that `digest` was taken of; a flipped bit may have made something else of either."""
    return isinstance(data, bytes) and digest(place, data) == checksum


def check(episode: Episode, senses: bool = True) -> None:
    """Raise ValueError unless the arrays fit together: what the store accepts it must give back meaningful."""
    steps = len(episode)
    if episode.action.ndim != 2 or steps == 0:
        raise ValueError(f"action has shape {episode.action.shape}, (T, A) with T > 0 expected")
    lengths = {"reward": (episode.reward, steps), "surprise": (episode.surprise, steps)}
    lengths |= {"latent": (episode.latent, steps + 1)}
    if senses:
        lengths |= {f"observation {name!r}": (array, steps + 1) for name, array in episode.observation.items()}
    for name, (array, length) in lengths.items():
        if array is not None and array.shape[:1] != (length,):
            raise ValueError(f"{name} has shape {array.shape}, {length} rows expected after {steps} actions")
    for name, array in {"action": episode.action, "reward": episode.reward, "latent": episode.latent}.items():
        if array is not None and not np.isfinite(array).all():
            raise ValueError(f"{name} holds a value that is not finite")
    if episode.latent is not None and not (episode.encoder and episode.latent.ndim == 2):
        raise ValueError("a latent needs shape (T+1, D) and the name of its encoder")
