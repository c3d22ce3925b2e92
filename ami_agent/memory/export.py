"""Episodes for others: a memory as datasets of Minari, Farama's format for offline learning (HDF5)."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from ami_agent.errors import MissingError
from ami_agent.memory.store import EpisodeStore
from ami_agent.protocols import Episode

BATCH = 256  # episodes that are held at once
CURE = "pip install 'ami-agent[export]'"


def export(store: EpisodeStore, folder: Path, environment: str | None = None) -> tuple[dict[str, int], int]:
    """Write a dataset for each environment and task of a store into a new folder, which is there once it is whole.

    Returns how many episodes each dataset has, by its id, and how many were left out: damaged ones, and those with
    other senses than the first of their kind that can be read. With
    MINARI_DATASETS_PATH set to the folder, `minari.load_dataset(id)` reads them: actions in [-1, 1], pictures as they
    were; each step's info has its surprise, where it is known.

    Raises:
        MissingError: Minari is not installed.
        OSError: the folder cannot be written.
    """
    told: dict[str, int] = {}
    left_out, folder = 0, folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for number, (kind, ids) in enumerate(_kinds(store).items()):
            if environment not in (None, kind[0]):
                continue
            name = f"ami/{re.sub(r'[^A-Za-z0-9]+', '-', kind[0]).strip('-').lower()}-memory-v{number}"
            written = _write(name, aside, store, ids, kind)
            left_out += len(ids) - written
            if written:
                told[name] = written
        if told:
            aside.chmod(0o755)
            aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return told, left_out


def _kinds(store: EpisodeStore) -> dict[tuple[str, str], list[int]]:
    """Ascending ids of episodes by their environment and task."""
    found: dict[tuple[str, str], list[int]] = {}
    for episode_id in store.ids():
        for kind in store.rows(f"SELECT environment, {store.task_column} FROM episode WHERE id = ?", episode_id):
            found.setdefault((str(kind[0]), str(kind[1])), []).append(episode_id)
    return found


def _write(name: str, folder: Path, store: EpisodeStore, ids: list[int], kind: tuple[str, str]) -> int:
    """A dataset of the readable episodes that have the senses of the first; how many these are."""
    minari, buffer = _minari()
    readable = (episode for _, episode in store.readable(ids))
    first = next(readable, None)
    if first is None:
        return 0
    alike = itertools.chain([first], (one for one in readable if _shape(one) == _shape(first)))
    dataset, written = None, 0
    with _written_to(folder):
        while episodes := list(itertools.islice(alike, BATCH)):
            buffers = [_buffer(buffer, one) for one in episodes]
            if dataset is None:
                dataset = minari.create_dataset_from_buffers(
                    name,
                    buffers,
                    observation_space=spaces.Dict({key: _box(value) for key, value in _named(first).items()}),
                    action_space=spaces.Box(-1.0, 1.0, first.action.shape[1:], np.float32),
                    description=f"What an agent remembers of {kind[0]}"
                    + (f" with options {kind[1]}" if kind[1] else "")
                    + ". Actions are in [-1, 1], from one bound of the environment's own to the other.",
                    algorithm_name="ami-agent",
                    jpeg_encoding=False,
                )
            else:
                dataset.update_dataset_from_buffer(buffers)
            written += len(episodes)
    return written


def _buffer(kind: Any, episode: Episode) -> Any:
    """An episode as Minari takes it."""
    ends = np.zeros(len(episode), bool)
    terminated, truncated = ends.copy(), ends.copy()
    terminated[-1], truncated[-1] = episode.terminated, episode.truncated
    told = {} if episode.surprise is None else {"infos": {"surprise": np.append(episode.surprise, np.float32(0))}}
    return kind(
        seed=episode.seed,
        observations=_named(episode),
        actions=episode.action,
        rewards=episode.reward,
        terminations=terminated,
        truncations=truncated,
        **told,
    )


def _named(episode: Episode) -> dict[str, np.ndarray]:
    """Its senses, by names that HDF5 takes: "/" would be a folder, "" and "." are none."""
    named: dict[str, np.ndarray] = {}
    for sense, value in sorted(episode.observation.items()):
        name = re.sub(r"[/\0]", "_", sense) if sense not in ("", ".", "..") else sense.replace(".", "_") or "_"
        while name in named or (name != sense and name in episode.observation):
            name += "_"
        named[name] = value
    return named


def _shape(episode: Episode) -> list[tuple]:
    return [(name, value.shape[1:], value.dtype) for name, value in sorted(episode.observation.items())]


def _box(values: np.ndarray) -> spaces.Box:
    """(T+1, *shape) -> the space of one."""
    low, high = (0, 255) if values.dtype == np.uint8 else (-np.inf, np.inf)
    return spaces.Box(low, high, values.shape[1:], values.dtype.type)


def _minari() -> tuple[Any, Any]:
    """The package, and its class of an episode."""
    try:
        import h5py  # noqa: F401 - what the datasets are written with
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise MissingError(f"an export needs Minari with HDF5, {error.name} is not installed; {CURE}") from error
    return minari, EpisodeBuffer


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    """Minari knows where to write by an environment variable alone; it warns of the environment it is not given."""
    name, before = "MINARI_DATASETS_PATH", os.environ.get("MINARI_DATASETS_PATH")
    os.environ[name] = str(folder.absolute())
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
