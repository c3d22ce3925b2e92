"""The durable truth: every episode that was acknowledged, in a file or on a server that many agents share.

A flipped bit passes an engine's own check, so each row and each chunk carries a checksum, verified on every read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ami_agent.memory.checks import faults_of, left_of
from ami_agent.memory.database import DamagedMemory, Database, open_database
from ami_agent.memory.packing import check, digest, intact, pack, unpack
from ami_agent.protocols import Episode

log = logging.getLogger(__name__)
COLUMNS = "environment, session, seed, steps, episode_return, success, terminated, truncated, encoder, created, task"
ENCODER = COLUMNS.split(", ").index("encoder")
FILTERS = {
    "environment": "environment = ?",
    "task": "{task} = ?",
    "session": "session = ?",
    "success": "success = ?",
    "encoder": "id IN (SELECT episode FROM latent WHERE encoder = ?)",
    "first": "id >= ?",
}


class EpisodeStore:
    """Episodes on disk, in a file or, where `path` is a URL such as postgresql://robot@host/memory, on a server.

    One process writes to a file (see `HomeLock`), any number to a server, and any number read; one object belongs to
    one thread. Opening creates a memory that does not exist, unless `create` is False: then one that is missing raises
    ArtefactError. One of an older schema is migrated, or read as it is if `read_only`; one that is empty, cut, foreign
    or of a newer schema raises DamagedMemory and is left as it is. Raises MissingError (nothing to read, no permission,
    a server that is not there or not open to this user), ResourceError (disk full, connection lost), LockedError
    (another process is writing for seconds); after each of them what was stored is intact.
    """

    def __init__(self, path: str | Path, read_only: bool = False, create: bool = True) -> None:
        self.skipped = 0  # damaged episodes passed over by the latest `episodes` or `unembedded`
        self._db = open_database(path, read_only, create)
        self.path, self.name, self.shared = self._db.path, self._db.name, self._db.shared  # see `Database`
        self.read_only, self.schema = read_only, self._db.version
        self.task_column = "task" if self.schema > 2 else "''"  # older schemas have none
        self._columns = COLUMNS.replace("task", self.task_column)

    def close(self) -> None:
        """Let go of it; closing twice is harmless."""
        self._db.close()

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, episode: Episode) -> int:
        """Write the episode durably, then return its id; ids ascend and are never used twice.

        Raises ValueError for arrays whose lengths disagree (T actions, T+1 observations) or actions or rewards that are
        not finite, ResourceError if the disk is full; then nothing of the episode is kept but what a journal holds,
        whose steps of it (the same environment, session and seed) go in the same moment as the episode comes.
        """
        check(episode)
        senses = pack(episode.observation)
        steps = {"action": episode.action, "reward": episode.reward}
        if episode.surprise is not None:
            steps["surprise"] = episode.surprise
        packed_steps = pack(steps)
        row = (
            str(episode.environment),
            str(episode.session),
            int(episode.seed),
            len(episode),
            float(np.sum(episode.reward, dtype=np.float64)) + 0.0,  # -0.0 would come back as 0.0
            None if episode.success is None else int(episode.success),
            int(episode.terminated),
            int(episode.truncated),
            str(episode.encoder) if episode.latent is not None else "",
            time.time(),
            str(episode.task),
        )
        with self.transaction():
            places = ", ".join("?" * (len(row) + 1))
            insert = f"INSERT INTO episode ({COLUMNS}, checksum) VALUES ({places}) RETURNING id"
            episode_id: int = self._db.rows(insert, *row, _row_digest(row))[0][0]
            self._put("chunk", "part", episode_id, "senses", senses)
            self._put("chunk", "part", episode_id, "steps", packed_steps)
            if episode.latent is not None:
                self._put("latent", "encoder", episode_id, episode.encoder, pack({"latent": episode.latent}))
            lived = f"environment = ? AND session = ? AND seed = ? AND task = ? AND {self._db.own}"
            self._db.execute(f"DELETE FROM tail WHERE {lived}", (*row[:3], row[-1]))
        return episode_id

    def set_latents(self, episode_id: int, latent: np.ndarray, encoder: str) -> None:
        """Keep latent (T+1, D) by `encoder` beside those of other encoders, replacing an earlier one of the same.

        Raises KeyError for an unknown episode, ValueError for another length or an empty encoder name.
        """
        check(replace(self.read(episode_id, senses=False), latent=latent, encoder=encoder), senses=False)
        with self.transaction():
            self._put("latent", "encoder", int(episode_id), encoder, pack({"latent": latent}))

    def drop_latents(self, keep: Iterable[str], environment: str | None = None) -> int:
        """Delete the latents by encoders not in `keep`, of one environment or (None) of all; returns how many.

        An episode whose own latents go is from then on one that was lived without. Its room is used again; the file
        does not shrink.
        """
        kept = list(keep)
        superseded = " AND ".join(["encoder != ?"] * len(kept)) or "TRUE"
        here, values = self.matching(environment=environment)
        own = f"SELECT id FROM episode WHERE encoder != '' AND {superseded} AND {here}"
        drop = f"DELETE FROM latent WHERE {superseded} AND episode IN (SELECT id FROM episode WHERE {here})"
        with self.transaction():
            for (episode_id,) in self.rows(own, *kept, *values):
                with suppress(DamagedMemory):  # a row that cannot be trusted stays as it is
                    row = list(self._row(episode_id))
                    row[ENCODER] = ""
                    update = "UPDATE episode SET encoder = '', checksum = ? WHERE id = ?"
                    self._db.execute(update, (_row_digest(tuple(row)), episode_id))
            return self._db.execute(drop, (*kept, *values)).rowcount

    def read(self, episode_id: int, encoder: str | None = None, senses: bool = True) -> Episode:
        """The episode, exactly as it was appended; every byte is checked first.

        encoder: whose latents to attach (default: those it was lived with). senses=False leaves `observation` empty,
        much cheaper where there are images. Raises KeyError for an unknown id or encoder, DamagedMemory for a bad one.
        """
        episode_id = int(episode_id)  # moments hold numpy integers, which SQLite does not take
        row = self._row(episode_id)
        observation = self._get("chunk", "part", episode_id, "senses") if senses else {}
        steps = self._get("chunk", "part", episode_id, "steps")
        latent, by = None, row[ENCODER] if encoder is None else encoder
        if encoder is not None and encoder not in self.encoders(episode_id):
            raise KeyError(f"episode {episode_id} has no latents by encoder {encoder!r}")
        if by:
            latent = self._get("latent", "encoder", episode_id, by)["latent"]
        return Episode(
            environment=row[0],
            task=row[-1],
            observation=observation,
            action=steps["action"],
            reward=steps["reward"],
            terminated=bool(row[6]),
            truncated=bool(row[7]),
            success=None if row[5] is None else bool(row[5]),
            seed=row[2],
            session=row[1],
            latent=latent,
            encoder=by,
            surprise=steps.get("surprise"),
        )

    def ids(
        self,
        environment: str | None = None,
        session: str | None = None,
        success: bool | None = None,
        encoder: str | None = None,
        first: int | None = None,
        task: str | None = None,
    ) -> list[int]:
        """Ascending ids of the episodes that match.

        success: those that did or did not succeed, by what their environment told. encoder: those with latents by it.
        first: ids from this one on. Where the list itself is damaged, those that can be found by themselves, which is
        slow; raises DamagedMemory if none can.
        """
        told = None if success is None else int(success)
        filters = (environment, task, session, told, encoder, first)
        where, values = self.matching(**dict(zip(FILTERS, filters, strict=True)))
        try:
            return [row[0] for row in self.rows(f"SELECT id FROM episode WHERE {where} ORDER BY id", *values)]
        except DamagedMemory:
            if found := left_of(self, where, values):
                return found
            raise

    def matching(self, **filters: Any) -> tuple[str, list[Any]]:
        """A condition on episodes, by the names of FILTERS as far as they are not None, and its values."""
        wanted = {name: value for name, value in filters.items() if value is not None}
        where = " AND ".join(FILTERS[name].format(task=self.task_column) for name in wanted)
        return where or "TRUE", list(wanted.values())

    def episodes(self, senses: bool = True, **filters: Any) -> Iterator[tuple[int, Episode]]:
        """(id, episode) of those that match (see `ids`), with the latents of `encoder` if that is a filter.

        Damaged ones are passed over, counted in `skipped` and logged.
        """
        yield from self.readable(self.ids(**filters), filters.get("encoder"), senses)

    def unembedded(self, encoder: str, environment: str, but: Collection[int] = ()) -> Iterator[tuple[int, Episode]]:
        """(id, episode) of those of an environment that have no latents by `encoder`; damaged ones as in `episodes`.
        Some are left out.

        Latents may be set while this goes on.
        """
        known = {*self.ids(environment=environment, encoder=encoder), *but}
        missing = [episode_id for episode_id in self.ids(environment=environment) if episode_id not in known]
        yield from self.readable(missing, None, True)

    def readable(
        self, ids: list[int], encoder: str | None = None, senses: bool = True
    ) -> Iterator[tuple[int, Episode]]:
        """(id, episode) of these; damaged ones as in `episodes`."""
        self.skipped = 0
        for episode_id in ids:
            try:
                episode = self.read(episode_id, encoder, senses)
            except (DamagedMemory, KeyError) as error:
                if not self.gone(episode_id):
                    self.skipped += 1
                    log.warning("skipped: %s", error)
            else:
                yield episode_id, episode

    def tasks(self, environment: str) -> list[str]:
        """Those of an environment that episodes were lived in."""
        query = f"SELECT DISTINCT {self.task_column} FROM episode WHERE environment = ? ORDER BY 1"
        return [str(row[0]) for row in self.rows(query, environment)]

    def lengths(self, environment: str | None = None, task: str | None = None) -> np.ndarray:
        """(n, 2) int64: id and steps of each episode, ascending."""
        where, values = self.matching(environment=environment, task=task)
        query = f"SELECT id, coalesce(CAST(steps AS BIGINT), 0) FROM episode WHERE {where} ORDER BY id"
        return np.array(self.rows(query, *values), np.int64).reshape(-1, 2)

    def encoders(self, episode_id: int) -> list[str]:
        """Whose latents of an episode are kept."""
        return [row[0] for row in self.rows("SELECT encoder FROM latent WHERE episode = ? ORDER BY 1", int(episode_id))]

    def __len__(self) -> int:
        return int(self.rows("SELECT count(*) FROM episode")[0][0])

    @property
    def steps(self) -> int:
        """Steps lived, over all episodes."""
        return int(self.rows(f"SELECT coalesce(sum({_number('steps')}), 0) FROM episode")[0][0])

    def stats(self) -> dict[str, Any]:
        """Counts of episodes, steps and bytes on disk, by environment and by encoder; plain JSON values.

        A success rate is None where an environment never told; one that tells of success only where there is one may
        have begun to with any episode, so those of which it told nothing count as failed.
        """
        steps, success, outcome = map(_number, ("steps", "success", "episode_return"))
        rate = f"CASE WHEN count(success) > 0 THEN avg(coalesce({success}, 0)) END"
        measures = f"count(*), CAST(sum({steps}) AS BIGINT), {rate}, avg({outcome})"
        by_environment = self.rows(f"SELECT environment, {measures} FROM episode GROUP BY 1")
        names = ("episodes", "steps", "success_rate", "mean_return")
        return {
            "episodes": len(self),
            "steps": self.steps,
            "bytes": self._db.size(),
            "environments": {name: dict(zip(names, values, strict=True)) for name, *values in by_environment},
            "encoders": dict(self.rows("SELECT encoder, count(*) FROM latent GROUP BY 1")),
        }

    @property
    def occupied(self) -> int:
        """Bytes that hold something: what is free is used again before more is taken."""
        return self._db.occupied()

    def compact(self) -> None:
        """Give back the room of what was deleted or superseded. Raises as `append` does; then nothing has changed."""
        self._db.compact()

    def verify(self) -> list[str]:
        """Read everything and return the faults found, a line each; empty if all is well."""
        return self._db.check() + faults_of(self)

    def gone(self, episode_id: int) -> bool:
        """Whether another has deleted it; one that is listed and cannot be found is damaged."""
        return episode_id not in self.ids()

    def _row(self, episode_id: int) -> tuple:
        """The COLUMNS of an episode, checked. Raises KeyError for an unknown id, DamagedMemory for a bad checksum."""
        found = self.rows(f"SELECT {self._columns}, checksum FROM episode WHERE id = ?", episode_id)
        if not found:
            raise KeyError(f"no episode {episode_id} in {self.name}")
        *row, checksum = found[0]
        if _row_digest(tuple(row)) != checksum:
            raise DamagedMemory(self.name, f"episode {episode_id}: bad checksum of its row")
        return tuple(row)

    def _put(self, table: str, column: str, episode_id: int, name: str, data: bytes) -> None:
        checksum = digest(f"{table}/{episode_id}/{name}", data)
        upsert = self._db.upsert(table, f"episode, {column}, checksum, data")
        self._db.execute(upsert, (episode_id, name, checksum, data))

    def _get(self, table: str, column: str, episode_id: int, name: str) -> dict[str, np.ndarray]:
        place = f"{table}/{episode_id}/{name}"
        query = f"SELECT checksum, data FROM {table} WHERE episode = ? AND {column} = ?"
        found = self.rows(query, episode_id, name)
        if not found:
            self._row(episode_id)  # KeyError, if another has deleted it since it was read
            raise DamagedMemory(self.name, f"episode {episode_id}: {place} is missing")
        checksum, data = found[0]
        if not intact(place, data, checksum):
            raise DamagedMemory(self.name, f"episode {episode_id}: bad checksum of {place}")
        try:
            return unpack(data)
        except ValueError as error:
            raise DamagedMemory(self.name, f"episode {episode_id}: {place}: {error}") from error

    def rows(self, query: str, *values: Any) -> list[tuple]:
        """What a query finds; the errors are those of this class."""
        return self._db.rows(query, *values)

    def transaction(self, durable: bool = True) -> AbstractContextManager[Database]:
        """All or nothing of what is executed; the errors are those of this class.

        What is not `durable` outlives the process too, but a power cut only once something durable came after it.
        """
        return self._db.transaction(durable)

    def tails(self) -> Generator[None, None, None]:
        """Make each tail whose writer is gone this store's own, one after the other; the first is its own."""
        return self._db.tails()

    def forgetting(self) -> AbstractContextManager[bool]:
        """Whether, while this lasts, nobody else has asked for the same."""
        return self._db.forgetting()


def _number(column: str) -> str:
    """What is not read through its checksum may be anything: this makes it a number at least."""
    return f"CAST({column} AS DOUBLE PRECISION)"


def _row_digest(row: tuple) -> bytes:
    """Of the COLUMNS of an episode. One without a task has that of the versions that knew none."""
    return digest("episode", repr(row if row[-1] else row[:-1]).encode())
