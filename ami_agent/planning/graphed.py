"""A function of tensors as a CUDA graph: one launch instead of hundreds, and no wait for the device within."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Graphed:
    """`work(*tensors) -> Tensor`, captured once for every set of shapes; on the CPU it is simply called.

    `work` must read what else it uses, such as weights, from where it lay at the capture.
    """

    def __init__(self, work: Callable[..., Tensor]) -> None:
        self._work = work
        self._graphs: dict[object, Graph] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        if not inputs[0].is_cuda:
            return self._work(*inputs)
        key = tuple((one.shape, one.dtype) for one in inputs)
        if key not in self._graphs:
            self._graphs[key] = Graph(self._work, inputs)
        return self._graphs[key](*inputs)


class Graph:
    """One capture, with its own places for inputs and output."""

    def __init__(self, work: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [one.clone() for one in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries set themselves up before the capture, not in it
            for _ in range(3):
                work(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = work(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for place, one in zip(self._inputs, inputs, strict=True):
            place.copy_(one)
        self._graph.replay()
        return self._output.clone()
