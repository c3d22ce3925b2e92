"""`ami-agent replay`: live a run's episodes again, and compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from ami_agent import console
from ami_agent.commands.common import parse_options
from ami_agent.errors import ArtefactError, UsageError
from ami_agent.evaluation.film import gif
from ami_agent.evaluation.resimulate import difference, film_of
from ami_agent.files import write_bytes
from ami_agent.memory.store import EpisodeStore
from ami_agent.runs import Run


@dataclass(frozen=True)
class Config:
    run: tyro.conf.Positional[Path]
    """Folder of a run, as `ami-agent run` prints it."""
    episode: int = 1
    """Which episode to show, from 1."""
    verify: bool = False
    """Live all episodes again and compare every observation and reward to the bit, instead of showing one."""
    out: Path | None = None
    """Where the moving picture goes; videos/ in the run's folder if not given."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: Config) -> int:
    """Show an episode, or verify all."""
    run = Run.open(config.run)
    if not (run.folder / "episodes.sqlite").exists():
        raise UsageError(f"{run.folder} has no episodes; only runs of `ami-agent run` have")
    options = parse_options(str(run.config.get("options", "{}")))
    with EpisodeStore(run.folder / "episodes.sqlite", read_only=True) as record:
        return _verify(record, options, config.json) if config.verify else _show(record, options, run.folder, config)


def _verify(record: EpisodeStore, options: dict, json: bool) -> int:
    faults = {}
    ids = record.ids()
    with console.progress(len(ids), "verifying") as advance:
        for number, episode_id in enumerate(ids, start=1):
            found = difference(record.read(episode_id), options)
            if found is not None:
                faults[number] = found
            advance()
    if json:
        console.emit({"episodes": len(ids), "equal": len(ids) - len(faults), "differences": faults})
    else:
        for number, found in faults.items():
            console.out.print(f"episode {number} differs: {found}")
        console.out.print(f"{len(ids) - len(faults)} of {len(ids)} episodes are the same to the bit")
    return ArtefactError.exit_code if faults else 0


def _show(record: EpisodeStore, options: dict, folder: Path, config: Config) -> int:
    ids = record.ids()
    if not 1 <= config.episode <= len(ids):
        raise UsageError(f"--episode must lie from 1 to {len(ids)}, not {config.episode}")
    episode = record.read(ids[config.episode - 1])
    frames = film_of(episode, options)
    if not frames:
        raise UsageError(f"{episode.environment} cannot be drawn here; see `ami-agent doctor`")
    path = config.out or folder / "videos" / f"episode-{config.episode:04d}.gif"
    write_bytes(path, gif(frames, 25))
    facts = {"episode": config.episode, "success": episode.success, "steps": len(episode), "video": str(path)}
    if config.json:
        console.emit(facts)
    else:
        word = "success" if episode.success else "no success"
        console.out.print(f"episode {config.episode}: {word} in {len(episode)} steps; {path}")
    return 0
