"""Inverted lists (FAISS): rows in half precision by the centroid they are nearest to, few of which are looked into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ami_agent.memory.mapped import DamagedIndex, Mapped

PROBES = 32  # lists looked into; recall@10 is above .95 on clustered data
ID = 8  # bytes of a row's number


class InvertedLists:
    """Rows 0 to `filed`, those that a file holds and those filed since.

    Args:
        centroids: (m, D) float32.
        path, entries, sizes: the file that starts with the entries of the lists, and how many (m,) each has.
    """

    def __init__(
        self,
        centroids: np.ndarray,
        path: str | None = None,
        entries: Mapped | None = None,
        sizes: np.ndarray | None = None,
    ) -> None:
        import faiss  # here: only a large memory needs it, and importing it takes a moment

        self.centroids = centroids
        self._quantizer = faiss.IndexFlatL2(centroids.shape[1])
        self._quantizer.add(centroids)
        self._grown, self._entries, self._mapped = self._index(), entries, None
        self._ends = np.zeros(len(centroids) + 1, np.int64)  # bytes of the file's lists, summed up
        if path is not None and entries is not None and sizes is not None:
            self._ends[1:] = np.cumsum(sizes * entry_size(centroids.shape[1]))
            self._mapped = self._map(path, sizes)
        self._in_file = 0 if sizes is None else int(sizes.sum())

    @classmethod
    def train(cls, vectors: np.ndarray) -> InvertedLists:
        """Lists clustered by vectors (n, D), which they hold."""
        import faiss

        size, lists = vectors.shape[1], int(2 * len(vectors) ** 0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(size), size, lists)
        index.cp.niter, index.cp.max_points_per_centroid = 8, 64  # rough clusters find as well, in a tenth of the time
        index.cp.min_points_per_centroid = 1
        index.train(vectors)
        made = cls(index.quantizer.reconstruct_n(0, lists))
        made.add(vectors)
        return made

    @property
    def filed(self) -> int:
        """How many rows the lists hold."""
        return self._in_file + self._grown.ntotal

    def add(self, vectors: np.ndarray) -> None:
        """File the next rows (n, D)."""
        self._grown.add_with_ids(vectors, np.arange(self.filed, self.filed + len(vectors)))

    def search(self, query: np.ndarray, k: int, wanted: np.ndarray | None) -> np.ndarray:
        """query (D,), wanted (n,) bool or None for all -> rows likely to be among the k nearest, at least k of those
        wanted if there are."""
        import faiss

        parameters = faiss.SearchParametersIVF()
        if wanted is not None:
            bits = np.packbits(wanted, bitorder="little")
            parameters.sel = selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))  # noqa: F841 - kept
        for probes in (PROBES, len(self.centroids)):  # all lists if the likely ones hold too few that are wanted
            away, lists = self._quantizer.search(query[None], min(probes, len(self.centroids)))
            parameters.nprobe = lists.size
            rows = np.concatenate([self._look(index, query, k, away, lists, parameters) for index in self._indices()])
            if len(rows) >= k:
                break
        if len(rows) and rows.max() >= self.filed:
            raise DamagedIndex("its lists hold rows that it does not have")
        return rows

    def _look(
        self, index: Any, query: np.ndarray, k: int, away: np.ndarray, lists: np.ndarray, parameters: Any
    ) -> np.ndarray:
        """Into lists (1, p) of one of the two indices."""
        import faiss

        if index is self._mapped and self._entries is not None:
            self._entries.check(self._ends[lists[0]], self._ends[lists[0] + 1])
        distances, rows = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        pointers = [faiss.swig_ptr(array) for array in (lists, away, distances, rows)]
        index.search_preassigned_c(1, faiss.swig_ptr(query), k, *pointers, False, parameters)
        return rows[rows >= 0]

    def _indices(self) -> list[Any]:
        return [self._grown] if self._mapped is None else [self._mapped, self._grown]

    def sizes(self) -> np.ndarray:
        """(m,) int64: the entries of each list."""
        counts = [[index.invlists.list_size(i) for i in range(len(self.centroids))] for index in self._indices()]
        return np.array(counts, np.int64).sum(axis=0)

    def entries(self) -> Iterator[np.ndarray]:
        """Bytes of each list: the codes of its rows, then their numbers."""
        import faiss

        if self._entries is not None:
            self._entries.check(self._ends[:1], self._ends[-1:])
        for i in range(len(self.centroids)):
            codes, ids = [], []
            for lists in [index.invlists for index in self._indices()]:
                size = lists.list_size(i)
                if size:
                    codes.append(faiss.rev_swig_ptr(lists.get_codes(i), size * lists.code_size))
                    ids.append(faiss.rev_swig_ptr(lists.get_ids(i), size).view(np.uint8))
            yield np.concatenate([*codes, *ids, np.empty(0, np.uint8)])

    def _index(self) -> Any:
        import faiss

        size, lists = self.centroids.shape[1], len(self.centroids)
        kind, metric = faiss.ScalarQuantizer.QT_bf16, faiss.METRIC_L2
        index = faiss.IndexIVFScalarQuantizer(self._quantizer, size, lists, kind, metric, True)  # of what is left over
        index.is_trained = True
        return index

    def _map(self, path: str, sizes: np.ndarray) -> Any:
        """An index whose lists lie in the file."""
        import faiss

        index = self._index()
        lists = faiss.OnDiskInvertedLists(len(sizes), index.code_size, path)
        lists.read_only, lists.prefetch_nthread, lists.totsize = True, 0, int(self._ends[-1])
        counts = sizes.astype(np.uint64)  # named: a pointer keeps no array alive
        lists.set_all_lists_sizes(faiss.swig_ptr(counts))
        lists.do_mmap()
        index.replace_invlists(lists, False)
        self._kept = lists  # which the index does not own
        return index


def entry_size(size: int) -> int:
    """Bytes of an entry of a list: D numbers of 16 bits and the row's own."""
    return 2 * size + ID


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS keeps to one: deterministic, and the cores belong to the simulator."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
