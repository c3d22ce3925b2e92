"""OGBench's mazes: found by name, with goals told as places, seeded, and led through by ways that stay."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

from ami_agent.cli import main
from ami_agent.environment import Environment, find
from ami_agent.errors import MissingError, UsageError
from ami_agent.foreign import importing, ogbench

NAME = "ogbench/pointmaze-medium-v0"
needs_ogbench = pytest.mark.skipif(find_spec("ogbench") is None, reason="OGBench is not installed")


@pytest.mark.parametrize(
    ("error", "why"),
    [(ModuleNotFoundError("no", name="ogbench"), "is not installed"), (OSError("no EGL"), "imported: no EGL")],
)
def test_without_ogbench_the_cure_is_named(error, why, monkeypatch) -> None:
    def fails(module: str) -> None:
        raise error

    monkeypatch.setattr(importing.importlib, "import_module", fails)
    with pytest.raises(MissingError, match=f"{why}; pip install 'ami-agent.ogbench.'"):
        find(NAME)


@needs_ogbench
def test_an_unknown_maze_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is pointmaze-medium-v0"):
        find("ogbench/pointmaze-medum-v0")
    assert not [name for name in ogbench.mazes() if "visual" in name or "singletask" in name or "soccer" in name]


@needs_ogbench
def test_its_goals_are_places_and_end_the_episode() -> None:
    environment = Environment(NAME, 2)
    spec = environment.spec
    assert (spec.place, spec.goes, spec.near, environment.stays) == ((0, 1), True, 1.0, True)
    seen = environment.reset(seeds=[0, 1])
    assert np.array_equal(seen["observation"], seen["achieved_goal"])
    away = np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"], axis=1)
    assert (away > 4).all(), "a maze's start and goal are cells apart"
    _, reward, terminated, _, info = environment.step(np.zeros((2, 2), np.float32))
    assert reward.tolist() == [-1, -1] and not terminated.any() and not info["success"].any()
    for world in environment.vector.envs:
        maze = world.unwrapped
        maze._maze.set_xy(maze._goal + [0.5, 0.0])
    _, reward, terminated, _, info = environment.step(np.zeros((2, 2), np.float32))
    assert reward.tolist() == [0, 0] and terminated.all() and info["success"].all()
    judged = environment.compute_reward(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([[0.9, 0.0], [1.1, 0.0]]), {})
    assert judged.tolist() == [0, -1]


@needs_ogbench
def test_a_seed_is_an_episode_and_nobody_elses_numbers_change() -> None:
    def life(seed: int) -> list[np.ndarray]:
        seen = [environment.reset(seeds=[seed])]
        seen += [environment.step(np.full((1, 2), 0.3, np.float32))[0] for _ in range(20)]
        return [np.concatenate([one["observation"][0], one["desired_goal"][0]]) for one in seen]

    environment = Environment(NAME)
    np.random.seed(7)
    first = life(5)
    drawn = np.random.random()
    np.random.seed(7)
    assert drawn == np.random.random(), "numpy's global numbers are the user's"
    other, again = life(6), life(5)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@needs_ogbench
def test_the_five_tasks_can_be_asked_for() -> None:
    maze = environment_of_one()
    goals = [maze.reset(seed=0, options={"task_id": task})[0]["desired_goal"] for task in range(5)]
    cells = {tuple(np.round(goal / 4).astype(int)) for goal in goals}
    assert len(cells) >= 4, "some of the five have their goals in one cell"


def environment_of_one():
    return Environment(NAME).vector.envs[0].unwrapped


@needs_ogbench
def test_an_agent_lives_in_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--env", NAME, "--options", '{"max_episode_steps": 40}', "--agent", "random", "--episodes", "2"]
    assert main(["run", *options, "--home", "home", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["episodes"] == 2 and facts["success_rate"] == 0.0
