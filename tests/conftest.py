"""Tests run beside other work: one thread of torch each. What is told of a memory is told of both engines."""

import pytest
import torch
from servers import Server, programs

from ami_agent.memory.store import EpisodeStore

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def server():
    """A server of PostgreSQL, running."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install -e '.[postgres]'")
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def url(server):
    """Of a database with nothing of ours in it."""
    server.clear()
    return server.url()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where a memory may be made: a file, a server."""
    return str(tmp_path / "memory.db") if request.param == "sqlite" else request.getfixturevalue("url")


@pytest.fixture
def store(place):
    """An empty memory, by each engine."""
    with EpisodeStore(place) as store:
        yield store
