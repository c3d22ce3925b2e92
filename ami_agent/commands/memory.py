"""`ami-agent memory info|verify`: what an agent remembers, and whether it can be trusted. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ami_agent import console
from ami_agent.errors import ArtefactError, UsageError, nearest
from ami_agent.memory.database import DamagedMemory
from ami_agent.memory.store import EpisodeStore
from ami_agent.runs import home_path


@dataclass(frozen=True)
class Info:
    """What an agent remembers."""

    home: str | None = None
    """Folder that lives across runs; AMI_HOME or ~/.ami-agent if not given."""
    name: str = "default"
    """Which agent's."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Verify:
    """Read everything an agent remembers and name what is damaged; exit code 4 if anything is."""

    home: str | None = None
    """Folder that lives across runs; AMI_HOME or ~/.ami-agent if not given."""
    name: str = "default"
    """Which agent's."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: Info | Verify) -> int:
    """Do what `config` asks; 0, or 4 if the memory is damaged. Raises UsageError where there is none."""
    path = _path(config.home, config.name)
    return _info(path, config.json) if isinstance(config, Info) else _verify(path, config.json)


def _info(path: Path, json: bool) -> int:
    with EpisodeStore(path, read_only=True) as store:
        stats = store.stats()
    if json:
        console.emit({"path": path, **stats})
        return 0
    print(f"{path}: {stats['episodes']} episodes, {stats['steps']} steps, {stats['bytes'] / 2**20:.1f} MiB")
    for environment, facts in stats["environments"].items():
        rate = "-" if facts["success_rate"] is None else f"{facts['success_rate']:.0%}"
        print(
            f"  {environment:<20}{facts['episodes']} episodes, {facts['steps']} steps, "
            f"{rate} succeeded, mean return {facts['mean_return']:.2f}"
        )
    for encoder, episodes in stats["encoders"].items():
        print(f"  encoder {encoder}: latents of {episodes} episodes")
    return 0


def _verify(path: Path, json: bool) -> int:
    try:
        with EpisodeStore(path, read_only=True) as store:
            faults, cure = store.verify(), "damaged episodes are passed over, the others are used"
    except DamagedMemory as error:
        faults, cure = [error.reason], "nothing of it can be used"
    cure = f"{cure}; to begin anew: mv {path} {path}.damaged" if faults else ""
    if json:
        console.emit({"path": path, "ok": not faults, "faults": faults, "cure": cure})
    else:
        print("\n".join([f"FAULT  {fault}" for fault in faults] or [f"{path} is well"]))
        if cure:
            print(f"cure:  {cure}")
    return ArtefactError.exit_code if faults else 0


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
