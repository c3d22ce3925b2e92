"""Nearest rows of a growing table of vectors: exact while it is small, inverted lists (FAISS) once it is large."""

from __future__ import annotations

from typing import Any

import numpy as np

from ami_agent.memory.rows import Rows

EXACT_ROWS = 20_000  # up to here brute force is fast enough (milliseconds) and needs no training
BLOCK = 64  # queries at a time: bounds the table of distances to 64 x 20k floats
FILING = 512  # rows filed into the lists at a time; those that do not fill a block yet are compared one by one
PROBES = 32  # inverted lists looked into; recall@10 is above .95 on clustered data
SPARE = 16  # candidates beyond k, so that ties at the edge are settled by row and not by luck


class Neighbours:
    """Vectors (n, D) float32 by row number, in the order they came.

    What is found depends on the vectors and their order only, not on when they came or were searched: a table that
    grew and one that was opened again find the same.
    """

    def __init__(self, size: int, exact_rows: int = EXACT_ROWS) -> None:
        self._vectors = Rows((size,), np.float32)
        self._norms = Rows((), np.float32)
        self._exact_rows = exact_rows
        self._index: Any = None
        self._trained = 0  # rows from the first on that the lists were trained on

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def vectors(self) -> np.ndarray:
        return self._vectors.view

    def add(self, vectors: np.ndarray) -> None:
        """vectors (n, D). Raises ValueError if the size is another or a value is not finite."""
        vectors = np.asarray(vectors, np.float32)
        if not np.isfinite(vectors).all():
            raise ValueError("a latent that is not finite cannot be recalled by likeness")
        self._vectors.append(vectors)
        self._norms.append(np.einsum("nd,nd->n", vectors, vectors))

    def search(self, query: np.ndarray, k: int, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """query (B, D), wanted (n,) bool or None for all -> rows (B, k') int64, Euclidean distances (B, k') float32.

        Nearest first, equal distances by row. k' = min(k, rows wanted). Raises ValueError for a query that is not
        finite or of another size.
        """
        if query.ndim != 2 or query.shape[1] != self.vectors.shape[1] or not np.isfinite(query).all():
            raise ValueError(f"query of shape {query.shape}: finite (B, {self.vectors.shape[1]}) expected")
        query = query.astype(np.float32)
        matches = len(self) if wanted is None else int(np.count_nonzero(wanted))
        k = min(k, matches)
        if k <= 0:
            return np.empty((len(query), 0), np.int64), np.empty((len(query), 0), np.float32)
        if matches > self._exact_rows:
            candidates = self._approximate(query, k + SPARE, wanted)
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
        vectors, norms = self.vectors, self._norms.view
        if rows is not None:
            vectors, norms = vectors[rows], norms[rows]
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
        import faiss  # here: only a large memory needs it, and importing it takes a moment

        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # deterministic, and the cores belong to the simulator
        try:
            self._file()
            rest = np.arange(self._index.ntotal, len(self))
            rest = rest if wanted is None else rest[wanted[rest]]
            parameters = faiss.SearchParametersIVF()
            if wanted is not None:
                bits = np.packbits(wanted, bitorder="little")
                parameters.sel = selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))  # noqa: F841 - kept
            candidates = []
            for one in query:  # by itself: rounding in a product of matrices depends on what else is in it
                for probes in (PROBES, self._index.nlist):  # all lists if the likely ones hold too few that are wanted
                    parameters.nprobe = probes
                    _, (rows,) = self._index.search(one[None], k, params=parameters)
                    if (rows >= 0).all():
                        break
                candidates.append(np.concatenate([rows[rows >= 0], rest]))
            return candidates
        finally:
            faiss.omp_set_num_threads(threads)

    def _file(self) -> None:
        """Train the lists on exactly the first 20k, 30k, 45k, ... rows, then file the rest in whole blocks."""
        size = self._exact_rows
        while (larger := size + size // 2 + 1) <= len(self):
            size = larger
        if size != self._trained:
            self._index, self._trained = _inverted_lists(self.vectors[:size]), size
        for start in range(self._index.ntotal, len(self) - FILING + 1, FILING):
            self._index.add(self.vectors[start : start + FILING])


def _inverted_lists(vectors: np.ndarray) -> Any:
    """Lists clustered by vectors (n, D), which they hold."""
    import faiss

    size, lists = vectors.shape[1], int(2 * len(vectors) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(size), size, lists)
    index.cp.niter, index.cp.max_points_per_centroid = 8, 64  # a rough clustering finds as well, in a tenth of the time
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    return index
