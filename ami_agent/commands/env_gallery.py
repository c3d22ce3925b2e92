"""`ami-agent env gallery`: a picture of each of the worlds, and one sheet of all of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ami_agent import console
from ami_agent.commands.env_preview import file_name, stage
from ami_agent.errors import AmiError, ArtefactError, UsageError
from ami_agent.files import write_bytes
from ami_envs.plugins import load_plugins
from ami_envs.registry import TASKS

SHEET = "gallery.png"
DRAWN, SIDE, TILE = 512, 256, 200  # pixels a side: as drawn, as written (edges become smooth), on the sheet
COLUMNS, GAP, LABEL = 4, 8, 24  # of the sheet; pixels between tiles, and for a name
TRIES = 5  # episodes that one with success is looked for in
MOMENT = 0.6  # share of the episode that has passed in the picture
PAPER, INK = (255, 255, 255), (40, 44, 52)


@dataclass(frozen=True)
class Config:
    """A picture of each of the worlds, at a telling moment of its expert's episode, and one sheet of all."""

    out: Path = Path("gallery")
    """The folder for the pictures."""
    sheet_only: bool = False
    """Write the sheet alone, gallery.png."""
    force: bool = False
    """Replace files that are there."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: Config) -> int:
    """Draw all worlds; 0, or 4 if one could not be drawn."""
    load_plugins()
    names = {id: file_name(id, ".png") for id in TASKS}
    paths = [config.out / name for name in (SHEET, *([] if config.sheet_only else names.values()))]
    there = [path for path in paths if path.is_dir() or (path.exists() and not config.force)]
    if there:
        raise UsageError(f"{there[0]} is there already; give another --out, or --force to replace files")
    pictures: dict[str, Image.Image] = {}
    faults: dict[str, str] = {}
    with console.progress(len(TASKS), "gallery") as advance:
        for id in TASKS:
            try:
                pictures[id] = Image.fromarray(moment(id))
            except AmiError as error:
                faults[id] = str(error)
                console.say(f"{id} is left out: {error}")
            advance(text=id)
    for id, image in pictures.items():
        if not config.sheet_only:
            write_bytes(config.out / names[id], png(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    write_bytes(config.out / SHEET, png(sheet(pictures)))
    if config.json:
        console.emit({"sheet": (config.out / SHEET).absolute(), "worlds": list(pictures), "faults": faults})
    else:
        print(f"{(config.out / SHEET).absolute()}: {len(pictures)} worlds")
    return ArtefactError.exit_code if faults else 0


def moment(id: str) -> np.ndarray:
    """A picture of the expert at work, (DRAWN, DRAWN, 3) uint8: in its first episode with success, if it has one."""
    env, draw = stage(id, {}, size=DRAWN)
    try:
        steps = 0
        for seed in range(TRIES):
            steps, success = _live(env, seed, None)
            if success:
                break
        _live(env, seed, round(MOMENT * steps))
        return draw()
    finally:
        env.close()


def _live(env: gym.Env, seed: int, most: int | None) -> tuple[int, bool]:
    """Live an episode, or its first `most` steps: how many there were, and whether it ended in success."""
    env.reset(seed=seed)
    steps, over, success = 0, False, False
    while not over and steps != most:
        _, _, terminated, truncated, info = env.step(env.unwrapped.oracle())  # type: ignore[attr-defined]
        over, success = bool(terminated or truncated), bool(info["success"])
        steps += 1
    return steps, success


def sheet(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """All pictures in rows, each over its name."""
    rows = max(1, -(-len(pictures) // COLUMNS))
    page = Image.new("RGB", (COLUMNS * (TILE + GAP) + GAP, rows * (TILE + LABEL + GAP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for k, (id, image) in enumerate(pictures.items()):
        left, top = GAP + k % COLUMNS * (TILE + GAP), GAP + k // COLUMNS * (TILE + LABEL + GAP)
        page.paste(image.resize((TILE, TILE), Image.Resampling.LANCZOS), (left, top))
        pen.text((left + TILE // 2, top + TILE + LABEL // 2), id, INK, font, anchor="mm")
    return page


def png(image: Image.Image) -> bytes:
    """A small file: 256 colours."""
    file = io.BytesIO()
    image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
