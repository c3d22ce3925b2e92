"""A numpy array that grows: what the indices and the replay keep their rows in."""

from __future__ import annotations

import numpy as np


class Rows:
    """Rows of one shape and dtype, appended in amortised constant time; `view` is the filled part, not a copy."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        self._data = np.empty((64, *shape), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def view(self) -> np.ndarray:
        return self._data[: self._count]

    def append(self, rows: np.ndarray) -> None:
        """rows (n, *shape). Raises ValueError for another shape."""
        if rows.shape[1:] != self._data.shape[1:]:
            raise ValueError(f"rows of shape {rows.shape[1:]} came, {self._data.shape[1:]} expected")
        end = self._count + len(rows)
        if end > len(self._data):
            grown = np.empty((max(end, 2 * len(self._data)), *self._data.shape[1:]), self._data.dtype)
            grown[: self._count] = self.view
            self._data = grown
        self._data[self._count : end] = rows
        self._count = end

    def last(self, count: int) -> Rows:
        """The last rows, up to `count`, apart from the others."""
        rows = Rows(self._data.shape[1:], self._data.dtype)
        rows.append(self.view[-count:])
        return rows

    def put(self, index: int, row: np.ndarray | float) -> None:
        """Write a row (*shape,), or what broadcasts to it, over that at index, or behind the last."""
        if index == self._count:
            self.append(np.empty((1, *self._data.shape[1:]), self._data.dtype))
        self.view[index] = row


class Ring:
    """The latest `capacity` rows of an endless array; row r of all time lies at r % capacity. Grows as needed."""

    def __init__(self, capacity: int, shape: tuple[int, ...], dtype: np.dtype | type) -> None:
        self.capacity = capacity
        self._data = np.empty((min(64, capacity), *shape), dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return self._data.shape[1:]

    def write(self, start: int, rows: np.ndarray) -> None:
        """Put rows (n, *shape), n <= capacity, at start and on, over the oldest ones."""
        end = start + len(rows)
        if len(self._data) < min(end, self.capacity):
            grown = np.empty((min(max(end, 2 * len(self._data)), self.capacity), *self.shape), self._data.dtype)
            grown[: len(self._data)] = self._data
            self._data = grown
        self._data[np.arange(start, end) % self.capacity] = rows

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """rows: integers of all time, any shape -> a copy of what lies there, (*rows.shape, *shape)."""
        return self._data[rows % self.capacity]
