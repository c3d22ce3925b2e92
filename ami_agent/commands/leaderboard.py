"""`ami-agent leaderboard ...`: the page of all results, whether results can be trusted, and filing those of others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from ami_agent import console
from ami_agent.bench.results import FOLDER, Loaded, file_name, load
from ami_agent.bench.schema import visible
from ami_agent.bench.suites import find_suite
from ami_agent.errors import AmiError, ArtefactError, UsageError
from ami_agent.files import write_bytes


@dataclass(frozen=True, kw_only=True)
class Build:
    """One page of all results, which needs no network."""

    results: tuple[Path, ...] = (FOLDER,)
    """Folders of results, or files of them."""
    out: Path = Path("leaderboard.html")
    """Where the page goes; one that is there is replaced."""
    suite: str | None = None
    """Of one suite alone."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say what is wrong with files of results; exit code 4 if anything is."""

    paths: tyro.conf.Positional[tuple[Path, ...]] = (FOLDER,)
    """Files of results, or folders of them."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True, kw_only=True)
class Add:
    """Check files of results and copy them to the others: all of them, or none; nothing is overwritten."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files of results, or folders of them."""
    results: Path = FOLDER
    """The folder they go to; it is made if need be."""
    json: bool = False
    """Print one JSON object on stdout."""


def main(config: Build | Check | Add) -> int:
    """Do what `config` asks; 0, or 4 if a file is no result."""
    if isinstance(config, Build):
        return _build(config)
    return _check(config) if isinstance(config, Check) else _add(config)


def _build(config: Build) -> int:
    from ami_agent.bench.leaderboard import write_page
    from ami_agent.bench.standings import standings

    only = None if config.suite is None else find_suite(config.suite)
    if config.out.is_dir():
        raise UsageError(f"--out {config.out} is a folder; give the page a name, such as leaderboard.html")
    loaded = load(config.results)
    pieces = [piece for piece in loaded.pieces if only in (None, piece.suite)]
    found = standings(pieces)
    write_page(config.out, found, loaded.faults)
    if config.json:
        told = {one.suite.name: {row.agent: row.overall.mean for row in one.rows} for one in found}
        console.emit({"out": config.out, "pieces": len(pieces), "scores": told, "left_out": _told(loaded)})
        return 0
    for path, faults in loaded.faults.items():
        console.say(f"left out: {visible(str(path))}: {'; '.join(faults)}")
    if not pieces:
        console.say(f"no results in {', '.join(map(str, config.results))} yet; `ami-agent bench run` makes some")
    for one in found:
        leader = next((f", {row.name} leads with {row.overall.mean:.2f}" for row in one.rows if row.rank == 1), "")
        print(f"{one.suite.name}: {len(one.rows)} agents{leader}")
    print(f"{config.out}: {len(pieces)} pieces")
    return 0


def _check(config: Check) -> int:
    loaded = load(config.paths)
    if not (loaded.pieces or loaded.faults):
        raise UsageError(f"no results in {', '.join(map(str, config.paths))}")
    if config.json:
        console.emit({"ok": not loaded.faults, "pieces": len(loaded.pieces), "faults": _told(loaded)})
        return ArtefactError.exit_code if loaded.faults else 0
    for path, faults in loaded.faults.items():
        print("\n".join(f"FAULT  {visible(str(path))}: {fault}" for fault in faults))
    print(f"{len(loaded.pieces)} of {len(loaded.pieces) + len(loaded.faults)} files are well")
    return ArtefactError.exit_code if loaded.faults else 0


def _add(config: Add) -> int:
    loaded = load(config.paths)
    if loaded.faults:
        told = "; ".join(f"{path}: {', '.join(faults)}" for path, faults in loaded.faults.items())
        raise ArtefactError(f"nothing was added: {told}")
    if not loaded.pieces:
        raise UsageError(f"no results in {', '.join(map(str, config.paths)) or 'no files'}; give files or folders")
    contents = {piece.path: piece.path.read_bytes() for piece in loaded.pieces}
    targets = {piece.path: config.results / file_name(*piece.key) for piece in loaded.pieces}
    new = {path: to for path, to in targets.items() if not to.exists()}
    other = [to for path, to in targets.items() if to.exists() and to.read_bytes() != contents[path]]
    if other:
        raise UsageError(f"nothing was added: another result is in {', '.join(map(str, other))}; move it away first")
    keys = {piece.key: piece.path for piece in load([config.results]).pieces} if config.results.exists() else {}
    named = [keys[piece.key] for piece in loaded.pieces if piece.path in new and piece.key in keys]
    if named:
        raise UsageError(
            f"nothing was added: there is such a result in {', '.join(map(str, named))}; move it away first"
        )
    try:
        for path, to in new.items():
            write_bytes(to, contents[path])
    except AmiError:
        for to in new.values():
            to.unlink(missing_ok=True)
        raise
    if config.json:
        console.emit({"added": list(new.values()), "there_before": len(targets) - len(new)})
    else:
        print("\n".join([*map(str, new.values()), f"{len(new)} added, {len(targets) - len(new)} were there before"]))
    return 0


def _told(loaded: Loaded) -> dict[str, list[str]]:
    return {str(path): faults for path, faults in loaded.faults.items()}
