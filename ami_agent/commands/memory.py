"""`ami-agent memory ...`: what an agent remembers, whether it can be trusted; for others to read, and in less room."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from ami_agent import console
from ami_agent.commands.common import check_range
from ami_agent.errors import ArtefactError, UsageError, nearest
from ami_agent.files import writing
from ami_agent.memory.capacity import give_back, let_go, select
from ami_agent.memory.checks import listed
from ami_agent.memory.database import DamagedMemory, check_url
from ami_agent.memory.forgetting import ForgettingConfig, byte_count
from ami_agent.memory.lock import HomeLock
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Wanted
from ami_agent.runs import home_path


@dataclass(frozen=True, kw_only=True)
class Whose:
    """Whose memory it is, and how to answer."""

    home: str | None = None
    """Folder that lives across runs; AMI_HOME or ~/.ami-agent if not given."""
    name: str = "default"
    """Which agent's."""
    url: str | None = None
    """Of a memory that agents share on a server, in place of the agent's own: postgresql://USER@HOST/DATABASE."""
    json: bool = False
    """Print one JSON object on stdout."""

    def __post_init__(self) -> None:
        if self.url is not None:
            check_url(self.url)


@dataclass(frozen=True, kw_only=True)
class Info(Whose):
    """What an agent remembers."""


@dataclass(frozen=True, kw_only=True)
class Verify(Whose):
    """Read everything an agent remembers and name what is damaged; exit code 4 if anything is."""


@dataclass(frozen=True, kw_only=True)
class Export(Whose):
    """Write what an agent remembers as Minari datasets, which others read (needs the extra `export`)."""

    out: Path
    """A new folder, for MINARI_DATASETS_PATH."""
    env: str | None = None
    """Of one environment alone, as `memory info` names it."""


@dataclass(frozen=True, kw_only=True)
class Compact(Whose):
    """Give back the room of what was deleted or superseded; needs up to twice the room of the memory while it works."""


@dataclass(frozen=True, kw_only=True)
class Recall(Whose):
    """The moments most like one that is remembered, by the encoder whose latents are there."""

    episode: int
    """Id of the episode of the moment."""
    t: int = 0
    """Which of its observations, from 0 on."""
    k: int = 10
    """How many."""
    others: bool = True
    """Of other episodes only."""
    success: Literal["any", "yes", "no"] = "any"
    """Of episodes that succeeded, or did not, as far as their environment told."""
    session: str | None = None
    """Of one session: the folder of a run."""
    task: str | None = None
    """Of one task: the environment's options, as JSON."""
    after: str | None = None
    """Of episodes that were kept at this time or later: 2026-11-23, or 2026-11-23T10:30, local if it names no zone."""
    before: str | None = None
    """Of episodes that were kept earlier than this."""
    t_from: int | None = None
    """Not before this observation of their episode."""
    t_to: int | None = None
    """Not after this observation of their episode."""

    def wanted(self) -> Wanted:
        """Raises UsageError for a time that is none."""
        return Wanted(
            but=self.episode if self.others else None,
            success=None if self.success == "any" else self.success == "yes",
            session=self.session,
            task=self.task,
            after=_seconds("after", self.after),
            before=_seconds("before", self.before),
            t_from=self.t_from,
            t_to=self.t_to,
        )


@dataclass(frozen=True, kw_only=True)
class Forget(Whose):
    """Let go of episodes until a memory holds no more than so much: near duplicates first, then what is old, dull and
    failed, of the environments and tasks that take most."""

    steps: int = 0
    """Steps that stay at most; 0 for any number."""
    bytes: str = "0"
    """Room that it takes afterwards at most, such as 500MB or 2GB; 0 for any."""
    dry_run: bool = False
    """Change nothing, but say what would go."""


def main(config: Info | Verify | Export | Compact | Forget | Recall) -> int:
    """Do what `config` asks; 0, or 4 if the memory is damaged. Raises UsageError where there is none."""
    path = _path(config.home, config.name) if config.url is None else config.url
    if isinstance(config, Info):
        return _info(path, config.json)
    if isinstance(config, Verify):
        return _verify(path, config.json)
    if isinstance(config, Export):
        return _export(path, config)
    if isinstance(config, Forget):
        return _forget(path, config)
    return _compact(path, config) if isinstance(config, Compact) else _recall(path, config)


def _info(path: Path | str, json: bool) -> int:
    from ami_agent.memory.episodic import index_bytes  # its lists take a moment

    with EpisodeStore(path, read_only=True) as store:
        stats = store.stats()
    stats["index_bytes"] = index_bytes(path) if isinstance(path, Path) else 0
    if json:
        console.emit({"path": path, **stats})
        return 0
    room = f"{stats['bytes'] / 2**20:.1f} MiB, and {stats['index_bytes'] / 2**20:.1f} MiB of index"
    print(f"{path}: {stats['episodes']} episodes, {stats['steps']} steps, {room}")
    for environment, facts in stats["environments"].items():
        rate = "-" if facts["success_rate"] is None else f"{facts['success_rate']:.0%}"
        print(
            f"  {environment:<20}{facts['episodes']} episodes, {facts['steps']} steps, "
            f"{rate} succeeded, mean return {facts['mean_return']:.2f}"
        )
    for encoder, episodes in stats["encoders"].items():
        print(f"  encoder {encoder}: latents of {episodes} episodes")
    return 0


def _verify(path: Path | str, json: bool) -> int:
    try:
        with EpisodeStore(path, read_only=True) as store:
            faults, cure = store.verify(), "damaged episodes are passed over, the others are used"
            if not listed(store):
                cure = "nothing lives in it as it is; `ami-agent memory export` saves the episodes that can be read"
    except DamagedMemory as error:
        faults, cure = [error.reason], "nothing of it can be used"
    anew = f"mv {path} {path}.damaged" if isinstance(path, Path) else "make another database (createdb)"
    cure = f"{cure}; to begin anew: {anew}" if faults else ""
    if json:
        console.emit({"path": path, "ok": not faults, "faults": faults, "cure": cure})
    else:
        print("\n".join([f"FAULT  {fault}" for fault in faults] or [f"{path} is well"]))
        if cure:
            print(f"cure:  {cure}")
    return ArtefactError.exit_code if faults else 0


def _export(path: Path | str, config: Export) -> int:
    from ami_agent.memory.export import export  # Gymnasium's spaces take a moment

    if config.out.is_symlink() or (config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir()))):
        raise UsageError(f"--out {config.out} is not an empty folder: nothing is overwritten")
    if config.out.absolute() == Path.cwd():
        raise UsageError("--out is the folder that this runs in, and is made anew: give another")
    wanted = None if config.env is None else config.env.rpartition(":")[2]  # without the module that registers it
    with EpisodeStore(path, read_only=True) as store:
        if wanted is not None and wanted not in (there := store.stats()["environments"]):
            raise UsageError(f"nothing of {wanted!r} is remembered; there is {', '.join(there) or 'nothing'}")
        with writing(config.out):
            datasets, damaged = export(store, config.out, wanted)
    if config.json:
        console.emit({"out": config.out, "datasets": datasets, "left_out": damaged})
        return 0
    for name, episodes in datasets.items():
        print(f"{name}: {episodes} episodes")
    if damaged:
        console.say(f"{damaged} episodes were left out: damaged, or of other senses; see `ami-agent memory verify`")
    if datasets:
        print(
            f"read them: MINARI_DATASETS_PATH={config.out} python -c \"import minari; minari.load_dataset('{name}')\""
        )
    else:
        print("there was nothing to write")
    return 0


def _compact(path: Path | str, config: Compact) -> int:
    with HomeLock(path.parent) if isinstance(path, Path) else nullcontext(), EpisodeStore(path, create=False) as store:
        before = store.stats()["bytes"]
        store.compact()
        after = store.stats()["bytes"]
    if config.json:
        console.emit({"path": path, "bytes_before": before, "bytes": after})
    else:
        print(f"{path}: {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB now")
    return 0


def _forget(path: Path | str, config: Forget) -> int:
    if not (config.steps or byte_count(config.bytes)):
        raise UsageError("say how much may stay: --steps N, --bytes 2GB, or both")
    limits = ForgettingConfig(config.steps, config.bytes)
    with (
        HomeLock(path.parent) if isinstance(path, Path) and not config.dry_run else nullcontext(),
        EpisodeStore(path, read_only=config.dry_run, create=False) as store,
    ):
        before = store.stats()
        choice = select(store, limits)
        if not config.dry_run:
            let_go(store, choice.ids)
            give_back(store)
        after = store.stats()
    gone = Counter(trace.environment for trace in choice.traces)
    facts = {
        "path": path,
        "dry_run": config.dry_run,
        "forgotten": len(choice.ids),
        "duplicates": len(choice.duplicates),
        "steps": sum(trace.steps for trace in choice.traces),
        "environments": gone,
        "ids": sorted(choice.ids),
        "bytes_before": before["bytes"],
        "bytes": after["bytes"],
    }
    if config.json:
        console.emit(facts)
        return 0
    verb = "would be" if config.dry_run else "were"
    print(
        f"{path}: {len(choice.ids)} of {before['episodes']} episodes {verb} forgotten, {facts['steps']} of "
        f"{before['steps']} steps; {len(choice.duplicates)} are near duplicates of others"
    )
    for environment, episodes in gone.items():
        print(f"  {environment:<20}{episodes} of {before['environments'][environment]['episodes']} episodes")
    if not config.dry_run:
        print(f"{before['bytes'] / 2**20:.1f} MiB before, {after['bytes'] / 2**20:.1f} MiB now")
    return 0


def _recall(path: Path | str, config: Recall) -> int:
    from ami_agent.memory.episodic import EpisodicMemory

    check_range("episode", config.episode, 1, 2**63 - 1)
    with EpisodeStore(path, read_only=True) as store:
        try:
            known, seen = store.encoders(config.episode), store.stats()["encoders"]
            lived = store.read(config.episode, max(known, key=seen.__getitem__, default=None))
        except KeyError as error:
            raise UsageError(f"{error.args[0]}; `ami-agent memory info` tells how many there are") from error
        if lived.latent is None:
            raise UsageError(
                f"episode {config.episode} has no latents: a run with memory makes them, by weights that its senses fit"
            )
        if not (0 <= config.t <= len(lived) and 1 <= config.k <= 1000):
            raise UsageError(f"--t must lie from 0 to {len(lived)} and --k from 1 to 1000")
        memory = EpisodicMemory(store, lived.encoder, lived.environment)
        _, moments, distances = memory.recall(lived.latent[config.t][None], config.k, config.wanted())
        near = dict(store.readable(np.unique(moments[0, :, 0]).tolist(), senses=False))
        found = [
            {"episode": id, "t": t, "distance": distance, "session": near[id].session, "success": near[id].success}
            for (id, t), distance in zip(moments[0].tolist(), distances[0].tolist(), strict=True)
            if id in near  # it may have been damaged since it was indexed
        ]
    if config.json:
        console.emit({"episode": config.episode, "t": config.t, "encoder": lived.encoder, "moments": found})
        return 0
    if not found:
        print("nothing else that matches is remembered by this encoder")
    for one in found:
        told = {None: "", True: ", which succeeded", False: ", which failed"}[one["success"]]
        print(f"{one['distance']:8.4f}  moment {one['t']} of episode {one['episode']}{told} ({one['session']})")
    return 0


def _seconds(flag: str, time: str | None) -> float | None:
    """Unix seconds of a time as people write it. Raises UsageError."""
    try:
        return None if time is None else datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"--{flag} must be a time like 2026-11-23 or 2026-11-23T10:30, not {time!r}") from error


def _path(home: str | None, name: str) -> Path:
    """The agent's memory; nothing is made. Raises UsageError, naming agents there are, if it has none."""
    agents = home_path(home) / "agents"
    path = agents / name / "memory.sqlite"
    if path.exists():
        return path
    there = sorted(found.parent.name for found in agents.glob("*/memory.sqlite"))
    if not there:
        raise UsageError(f"nothing is remembered in {agents} yet; `ami-agent run --env ami/Push-v0` begins a memory")
    raise UsageError(f"agent {name!r} remembers nothing; --name may be {', '.join(nearest(name, there) or there[:5])}")
