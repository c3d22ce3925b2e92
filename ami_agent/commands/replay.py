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
    """Where the moving picture (GIF) goes; videos/ in the run's folder if not given."""
    force: bool = False
    """Replace the file if there is one."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: Config) -> int:
    """Show an episode, or verify all."""
    run = Run.open(config.run)
    if not (run.folder / "episodes.sqlite").exists():
        raise UsageError(f"{run.folder} has no episodes; only runs of `ami-agent run` have")
    options = parse_options(str(run.config.get("options", "{}")))
    with EpisodeStore(run.folder / "episodes.sqlite", read_only=True) as record:
        return _verify(record, options, run, config.json) if config.verify else _show(record, options, run, config)


def _verify(record: EpisodeStore, options: dict, run: Run, json: bool) -> int:
    faults = {}
    ids = record.ids()
    with console.progress(len(ids), "verifying") as advance:
        for number, episode_id in enumerate(ids, start=1):
            found = difference(record.read(episode_id), options, run.config.get("env"))
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


def _show(record: EpisodeStore, options: dict, run: Run, config: Config) -> int:
    ids = record.ids()
    if not 1 <= config.episode <= len(ids):
        raise UsageError(f"--episode must lie from 1 to {len(ids)}, not {config.episode}")
    path = config.out or run.folder / "videos" / f"episode-{config.episode:04d}.gif"
    if path.suffix.lower() != ".gif":
        raise UsageError(f"--out must end in .gif, not {path}")
    if path.is_dir() or (path.exists() and not config.force):
        raise UsageError(f"{path} is there already; give another --out, or --force to replace a file")
    episode = record.read(ids[config.episode - 1])
    frames = film_of(episode, options, run.config.get("env"), most=len(episode) + 1)
    if not frames:
        raise UsageError(f"{episode.environment} cannot be drawn here; see `ami-agent doctor`")
    write_bytes(path, gif(frames, 25))
    facts = {"episode": config.episode, "success": episode.success, "steps": len(episode), "video": str(path)}
    if config.json:
        console.emit(facts)
    else:
        verdict = "" if episode.success is None else "success in " if episode.success else "no success in "
        console.out.print(f"episode {config.episode}: {verdict}{len(episode)} steps; {path}")
    return 0
