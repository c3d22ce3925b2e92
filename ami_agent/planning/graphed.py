"""A function of tensors as a CUDA graph: one launch instead of hundreds, and no wait for the device within."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Graphed:
    """`work(*tensors) -> Tensor`, captured once for every set of shapes; on the CPU it is simply called.

    `work` must read what else it uses, such as weights, from where it lay at the capture, and must not wait for the
    device. One memory pool does for all graphs: only one runs at a time, on one stream, what goes in lies outside the
    pool, what comes out is copied out of it at once.
    """

    def __init__(self, work: Callable[..., Tensor]) -> None:
        self._work = work
        self._graphs: dict[object, Graph] = {}
        self._pool: Any = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        if not inputs[0].is_cuda:
            return self._work(*inputs)
        key = tuple((one.shape, one.dtype, one.device) for one in inputs)
        with torch.cuda.device(inputs[0].device):
            if key not in self._graphs:
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                self._graphs[key] = Graph(self._work, inputs, self._pool)
            return self._graphs[key](*inputs)


class Graph:
    """One capture, with its own places for inputs."""

    def __init__(self, work: Callable[..., Tensor], inputs: tuple[Tensor, ...], pool: Any) -> None:
        self._inputs = [one.clone() for one in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries set themselves up before the capture, not in it
            for _ in range(3):
                work(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        gc.collect()  # what would be freed during the capture could spoil it
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._output = work(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for place, one in zip(self._inputs, inputs, strict=True):
            place.copy_(one)
        self._graph.replay()
        return self._output.clone()
