"""Moving pictures and filmstrips of an episode, as bytes that a page can carry in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

PERIOD = 0.04  # seconds that a decision is shown for, where the world does not say how long it lasts


def as_lived(frames: Sequence[np.ndarray], steps: int, period: float) -> bytes:
    """A `gif` of pictures spread over an episode of so many decisions that takes as long as they did, `period` seconds
    each; 0 where that is not known."""
    return gif(frames, len(frames) / ((steps + 1) * (period or PERIOD)))


def gif(frames: Sequence[np.ndarray], fps: float, scale: int = 1) -> bytes:
    """An endless GIF of `frames` (each (H, W, 3) uint8, alike in shape), `scale` times larger without smoothing.

    One palette, made from frames across the whole film, serves all of them: still parts do not flicker. GIF counts
    hundredths of a second and browsers slow down anything under two, so 50 is the highest rate.
    Raises ValueError for no frames, other shapes or types, or a rate that is not positive.
    """
    if not fps > 0:
        raise ValueError(f"fps must be positive, not {fps}")
    _check(frames, scale)
    sample = Image.fromarray(np.vstack([frames[i] for i in _spread(len(frames), 8)]))
    palette = sample.quantize(255, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).getpalette()
    colours = np.array(palette, np.uint8).reshape(-1, 3)
    nearest = cKDTree(colours)
    first, *rest = [_indexed(frame, colours, nearest, scale) for frame in frames]
    file = io.BytesIO()
    duration = max(20, round(100 / fps) * 10)
    first.save(file, "GIF", save_all=True, append_images=rest, duration=duration, loop=0, optimize=False)
    return file.getvalue()


def filmstrip(frames: Sequence[np.ndarray], count: int = 8, scale: int = 1, gap: int = 4) -> bytes:
    """A PNG of up to `count` frames spread evenly from the first to the last, side by side, `gap` clear pixels apart.
    Raises ValueError as `gif` does."""
    _check(frames, scale)
    chosen = [frames[i].repeat(scale, axis=0).repeat(scale, axis=1) for i in _spread(len(frames), count)]
    height, width, _ = chosen[0].shape
    strip = np.zeros((height, len(chosen) * (width + gap) - gap, 4), np.uint8)
    for i, frame in enumerate(chosen):
        place = strip[:, i * (width + gap) :][:, :width]
        place[..., :3], place[..., 3] = frame, 255
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "PNG", optimize=True)
    return file.getvalue()


def data_uri(content: bytes, mime: str) -> str:
    """`content` as an address that needs no server."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def _indexed(frame: np.ndarray, colours: np.ndarray, nearest: cKDTree, scale: int) -> Image.Image:
    """`frame` in the palette's nearest colours (Pillow's own mapping is quicker, but tints smooth greys)."""
    packed = frame @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    distinct, where = np.unique(packed, return_inverse=True)
    _, index = nearest.query(np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=1))
    pixels = index.astype(np.uint8)[where].reshape(packed.shape)
    image = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
    image.putpalette(colours.tobytes())  # from grey levels to palette indices
    return image


def _check(frames: Sequence[np.ndarray], scale: int) -> None:
    if not len(frames):
        raise ValueError("no frames to make a picture of")
    if scale < 1:
        raise ValueError(f"scale must be 1 or more, not {scale}")
    shape = frames[0].shape
    for i, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.shape != shape or len(shape) != 3 or shape[2] != 3:
            raise ValueError(
                f"frame {i} is {frame.dtype} {frame.shape}; expected uint8 (H, W, 3), like the first, {shape}"
            )


def _spread(length: int, count: int) -> list[int]:
    """Up to `count` indices from 0 to length - 1, evenly, each once."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(count, length))})
