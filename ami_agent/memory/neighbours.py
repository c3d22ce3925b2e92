"""Nearest rows of a growing table of vectors: exact while it is small, inverted lists (FAISS) once it is large."""

from __future__ import annotations

import numpy as np

from ami_agent.memory.lists import InvertedLists, entry_size, one_thread
from ami_agent.memory.mapped import DamagedIndex, MappedFile, Pieces, Table

EXACT_ROWS = 20_000  # up to here brute force is fast enough (milliseconds) and needs no training
BLOCK = 64  # queries at a time: bounds the table of distances to 64 x 20k floats
FILING = 512  # rows filed into the lists at a time; those that do not fill a block yet are compared one by one
SPARE = 16  # candidates beyond k, so that ties at the edge are settled by row and not by luck


class Neighbours:
    """Vectors (n, D) float32 by row number, in the order they came.

    What is found depends on the vectors and their order only, not on when they came or were searched: a table that
    grew and one that was opened again find the same.
    """

    def __init__(self, size: int, exact_rows: int = EXACT_ROWS, kept: MappedFile | None = None) -> None:
        self._size, self._exact_rows = size, exact_rows
        self._lists: InvertedLists | None = None
        self.trained = 0  # rows from the first on that the lists were trained on
        self.vectors, self._norms = Table((size,), np.float32), Table((), np.float32)
        if kept is not None:
            self._take(kept)

    def __len__(self) -> int:
        return len(self.vectors)

    def add(self, vectors: np.ndarray) -> None:
        """vectors (n, D). Raises ValueError if the size is another or a value is not finite."""
        vectors = np.asarray(vectors, np.float32)
        if not np.isfinite(vectors).all():
            raise ValueError("a latent that is not finite cannot be recalled by likeness")
        self.vectors.append(vectors)
        self._norms.append(np.einsum("nd,nd->n", vectors, vectors))

    def search(self, query: np.ndarray, k: int, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """query (B, D), wanted (n,) bool or None for all -> rows (B, k') int64, Euclidean distances (B, k') float32.

        Nearest first, equal distances by row. k' = min(k, rows wanted). Raises ValueError for a query that is not
        finite or of another size.
        """
        if query.ndim != 2 or query.shape[1] != self._size or not np.isfinite(query).all():
            raise ValueError(f"query of shape {query.shape}: finite (B, {self._size}) expected")
        query = query.astype(np.float32)
        matches = len(self) if wanted is None else int(np.count_nonzero(wanted))
        k = min(k, matches)
        if k <= 0:
            return np.empty((len(query), 0), np.int64), np.empty((len(query), 0), np.float32)
        if matches > self._exact_rows:
            candidates = self._approximate(query, k, wanted)
        else:
            candidates = self._exact(query, k, None if wanted is None else np.flatnonzero(wanted))
        found = [self._rank(one, rows, k) for one, rows in zip(query, candidates, strict=True)]
        return np.stack([rows for rows, _ in found]), np.stack([distances for _, distances in found])

    def _rank(self, query: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact distances in float64 of a few candidates, the k best in a fixed order."""
        difference = self.vectors[rows].astype(np.float64) - query
        squared = np.einsum("nd,nd->n", difference, difference)
        best = np.lexsort((rows, squared))[:k]
        return rows[best], np.sqrt(squared[best]).astype(np.float32)

    def _exact(self, query: np.ndarray, k: int, rows: np.ndarray | None) -> list[np.ndarray]:
        """All rows that can be among the k nearest: |x|^2 - 2qx by BLAS, with room for its rounding error."""
        if rows is None:
            vectors, norms = self.vectors.view, self._norms.view
        else:
            vectors, norms = self.vectors[rows], self._norms[rows]
        rounding = 2 * (vectors.shape[1] + 4) * 2.0**-24
        room = rounding * (np.einsum("bd,bd->b", query, query) + 2 * norms.max())
        candidates = []
        for start in range(0, len(query), BLOCK):
            block = query[start : start + BLOCK]
            closeness = norms - 2 * (block @ vectors.T)
            limit = np.partition(closeness, k - 1, axis=1)[:, k - 1] + room[start : start + BLOCK]
            candidates += [np.flatnonzero(row <= edge) for row, edge in zip(closeness, limit, strict=True)]
        return candidates if rows is None else [rows[chosen] for chosen in candidates]

    def _approximate(self, query: np.ndarray, k: int, wanted: np.ndarray | None) -> list[np.ndarray]:
        """Rows likely to be among the k nearest, at least k of those wanted if there are."""
        lists = self._file()
        rest = np.arange(lists.filed, len(self))
        rest = rest if wanted is None else rest[wanted[rest]]
        with one_thread():  # one by one: rounding in a product of matrices depends on what else is in it
            found = [lists.search(one, k + SPARE, wanted) for one in query]
        if (least := min(map(len, found))) < k + SPARE:
            rows = np.arange(len(self)) if wanted is None else np.flatnonzero(wanted)
            if least < len(rows) - len(rest):  # distances beyond what a float holds
                return self._exact(query, k, rows)
        return [np.concatenate([likely, rest]) for likely in found]

    def _file(self) -> InvertedLists:
        """Train the lists on exactly the first 20k, 30k, 45k, ... rows, then file the rest in whole blocks."""
        with one_thread():
            size = self._training_rows(len(self))
            if self._lists is None or size != self.trained:
                self._lists, self.trained = InvertedLists.train(self.vectors[np.arange(size)]), size
            for start in range(self._lists.filed, len(self) - FILING + 1, FILING):
                self._lists.add(self.vectors[np.arange(start, start + FILING)])
        return self._lists

    def _training_rows(self, rows: int) -> int:
        size = self._exact_rows
        while (larger := size + size // 2 + 1) <= rows:
            size = larger
        return size

    def _take(self, kept: MappedFile) -> None:
        """Begin with what `pieces` gave. Raises DamagedIndex."""
        vectors = kept.array("vectors", np.float32, -1, self._size)
        norms = kept.array("norms", np.float32, len(vectors))
        if len(vectors) <= self._exact_rows:
            self.vectors.append(vectors.all())
            self._norms.append(norms.all())
            return
        self.vectors, self._norms = Table((self._size,), np.float32, vectors), Table((), np.float32, norms)
        centroids = kept.array("centroids", np.float32, -1, self._size).all()
        sizes = kept.array("sizes", np.int64, len(centroids)).all()
        if not len(centroids) or sizes.min() < 0 or sizes.max() > len(vectors) or sizes.sum() > len(vectors):
            raise DamagedIndex("the sizes of its lists cannot be")
        entries = kept.array("lists", np.uint8, int(sizes.sum()) * entry_size(self._size))
        self._lists = InvertedLists(centroids, kept.name, entries, sizes)
        self.trained = self._training_rows(len(vectors))

    def pieces(self) -> dict[str, Pieces]:
        """What to keep in a file, that of the lists first."""
        kept = {"vectors": self.vectors.pieces(), "norms": self._norms.pieces()}
        if len(self) <= self._exact_rows:
            return kept
        lists = self._file()
        sizes = lists.sizes()
        entries: Pieces = (np.uint8, (int(sizes.sum()) * entry_size(self._size),), lists.entries())
        small = {"centroids": lists.centroids, "sizes": sizes}
        return {"lists": entries, **kept, **{name: (one.dtype, one.shape, [one]) for name, one in small.items()}}
