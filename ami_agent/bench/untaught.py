"""Agents that do not learn, in a benchmark: floors and ceilings. One point says all of them."""

from __future__ import annotations

from typing import Any

from ami_agent.baselines.oracle_planner import OraclePlannerAgent
from ami_agent.baselines.simple import NoopAgent, OracleAgent, RandomAgent
from ami_agent.bench.piece import OpenPiece
from ami_agent.protocols import Agent
from ami_envs import registry


def draw(piece: OpenPiece) -> None:
    run = piece.begin()
    piece.point(0, _agent(piece))
    piece.finish(run)


def _agent(piece: OpenPiece) -> Agent:
    name, judge, size = piece.facts["agent"], piece.judge, piece.judge.spec.action_size
    vector: Any = judge.vector
    if name == "noop":
        return NoopAgent(size)
    if name == "oracle":
        return OracleAgent(vector.oracle)
    if name == "oracle-planner":
        task = registry.task_of(judge.id, piece.judged_options)
        return OraclePlannerAgent(vector.engine, task, seed=piece.seed, repeat=piece.repeat)
    return RandomAgent(size, piece.seed)
