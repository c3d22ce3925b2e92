"""dm_control's worlds: found without importing Shimmy, ended by time, seeded, drawn without OpenGL."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ami_agent.environment import Environment, find
from ami_agent.errors import MissingError, UsageError
from ami_agent.foreign import dmc, importing

works = find_spec("dm_control") is not None and int(metadata.version("mujoco").partition(".")[0]) < 4
needs_dm_control = pytest.mark.skipif(not works, reason="no dm_control that works with this MuJoCo")


@pytest.mark.parametrize("name", ["dm_control/cartpole-swingup-v0", "shimmy:dm_control/cartpole-swingup-v0"])
def test_without_dm_control_the_cure_is_named(name: str, monkeypatch) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(importing.importlib, "import_module", missing)
    monkeypatch.setattr(dmc, "_version", lambda package: None)
    with pytest.raises(MissingError, match=r"dm_control, which is not installed; .* pip install 'ami-agent\[dmc\]'"):
        find(name)


def test_a_mujoco_that_is_too_new_is_named(monkeypatch) -> None:
    versions = {"mujoco": dmc.Version("4.0.0"), "dm_control": dmc.Version("1.0.50")}
    monkeypatch.setattr(dmc, "_version", versions.get)
    with pytest.raises(MissingError, match=r"mujoco 4.0.0 that is here; .* needs mujoco<4"):
        find("dm_control/cartpole-swingup-v0")


@needs_dm_control
def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean dm_control/cartpole-swingup-v0"):
        find("dm_control/cartpole-swingp-v0")


@needs_dm_control
@pytest.mark.parametrize("id", ["walker-walk", "hopper-hop", "finger-spin"])
def test_numbers_alone_are_senses_and_time_truncates(id: str) -> None:
    environment = Environment(f"dm_control/{id}-v0", 2, {}, 8)
    assert environment.spec.max_episode_steps == 125 and environment.spec.control_period >= 0.02 * 8
    if id == "walker-walk":
        assert environment.spec.senses["height"] == (1,)
    numbers = np.random.default_rng(0)
    environment.reset(seeds=[0, 1])
    for step in range(125):
        action = numbers.uniform(-1, 1, (2, environment.spec.action_size)).astype(np.float32)
        _, _, terminated, truncated, info = environment.step(action)
        assert not terminated.any() and (truncated == (step == 124)).all() and not info["physics_error"].any()


@needs_dm_control
def test_angles_that_go_round_are_known() -> None:
    assert Environment("dm_control/reacher-easy-v0").spec.angles == {"position": (0,)}  # the wrist has limits


@needs_dm_control
def test_a_seed_is_an_episode_whatever_came_before() -> None:
    def life(environment: Environment, seed: int) -> list[np.ndarray]:
        seen = [environment.reset(seeds=[seed])]
        seen += [environment.step(np.full((1, 1), 0.3, np.float32))[0] for _ in range(20)]
        return [np.concatenate([one["position"][0], one["velocity"][0]]) for one in seen]

    environment = Environment("dm_control/cartpole-swingup-v0")
    first, other, again = life(environment, 5), life(environment, 6), life(environment, 5)
    fresh = life(Environment("dm_control/cartpole-swingup-v0"), 5)
    assert np.array_equal(first, again) and np.array_equal(first, fresh) and not np.array_equal(first, other)


@needs_dm_control
def test_a_run_is_quiet_and_has_a_film(tmp_path: Path) -> None:
    """In a process of its own, without a screen: dm_control looks for OpenGL when it is first imported."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    words = ["run", "--env", "dm_control/cartpole-swingup-v0", "--agent", "random", "--episodes", "1", "--json"]
    command = [sys.executable, "-m", "ami_agent", *words, "--action-repeat", "8"]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    facts = json.loads(done.stdout)
    assert facts["env_steps"] == 1000 and facts["success_rate"] is None
    assert "data:image/gif" in (tmp_path / facts["run"] / "report.html").read_text()


@needs_dm_control
def test_the_users_choice_of_opengl_holds(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(importlib, "import_module", lambda module: seen.append(os.environ.get("MUJOCO_GL")))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    dmc.register("dm_control/x-v0")
    assert "MUJOCO_GL" not in os.environ
    monkeypatch.setenv("MUJOCO_GL", "egl")
    dmc.register("dm_control/x-v0")
    assert seen == ["disable", "disable", "egl", "egl"]
