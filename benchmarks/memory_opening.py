"""Opening a memory in a process that knows nothing of it yet: `python memory_opening.py STORE ENCODER ENVIRONMENT D`.

Prints one line of JSON: CPU-seconds and seconds until it is open, as an agent opens it, and until the first recall has
come back; episodes read from the store; MiB that the process has grown by, mapped pages that were touched included.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from ami_agent.memory.episodic import EpisodicMemory
from ami_agent.memory.store import EpisodeStore

PAGE = resource.getpagesize() / 2**20  # MiB


class Counted(EpisodeStore):
    """A store that counts the episodes that are read."""

    reads = 0

    def read(self, *arguments, **options):
        self.reads += 1
        return super().read(*arguments, **options)


def resident() -> float:
    """MiB of this process that lie in RAM."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def main(path: str, encoder: str, environment: str, size: str) -> None:
    before, cpu, wall = resident(), time.process_time(), time.perf_counter()
    with Counted(path) as store:
        list(store.unembedded(encoder, environment))
        store.drop_latents([encoder], environment)
        memory = EpisodicMemory(store, encoder, environment)
        facts = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "grown": resident() - before}
        memory.recall(np.zeros((1, int(size))), 10)
        facts |= {"reads": store.reads, "first": time.process_time() - cpu}
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
