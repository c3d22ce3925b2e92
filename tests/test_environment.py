"""Other people's environments: found, made, and put into the agent's terms, however odd they are."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import unquote

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from ami_agent.baselines.simple import NoopAgent
from ami_agent.environment import LARGEST_BOUND, NO_LIMIT, Environment, control_period, find, make, to_box
from ami_agent.errors import MissingError, NumericalError, UsageError
from ami_agent.evaluation.resimulate import difference, film_of
from ami_agent.learning.live import live
from ami_agent.perception.encoder import EncoderConfig, SenseEncoder, layer_name
from ami_agent.protocols import Episode

WORLD = """
import gymnasium as gym, numpy as np
from gymnasium.spaces import Box

class Base(gym.Env):
    observation_space, action_space = Box(-9, 9, (2,)), Box(-1, 1, (1,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(size=2).astype(np.float32), {}

    def step(self, action):
        return np.full(2, action[0], np.float32), float(action[0]), False, False, {}

gym.register("odd/Base-v0", Base, max_episode_steps=3)
"""


class Odd(gym.Env):
    """Senses as given, actions remembered; `breaks` is the step at which `broken` shows."""

    def __init__(self, space=None, action=None, breaks=None, broken="sense", render_mode=None, draws=None, dt=None):
        self.observation_space = space or Box(-9, 9, (2,))
        self.action_space = action or Box(-1, 1, (1,))
        self.breaks, self.broken, self.render_mode, self.draws, self.t = breaks, broken, render_mode, draws, 0
        if dt is not None:
            self.dt = dt

    def _see(self):
        sample = {"observation": self.observation_space} if isinstance(self.observation_space, Box) else None
        spaces = sample or self.observation_space.spaces
        senses = {name: np.full(box.shape, self.t, box.dtype) for name, box in spaces.items()}
        if self.t == self.breaks and self.broken == "sense":
            first = next(iter(senses))
            senses[first] = np.full_like(senses[first], np.nan)
        return senses["observation"] if sample else senses

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._see(), {}

    def step(self, action):
        self.t, self.got = self.t + 1, action
        reward = np.inf if self.t == self.breaks and self.broken == "reward" else 1.0
        return self._see(), reward, self.t == self.breaks, False, {}

    def render(self):
        if isinstance(self.draws, Exception):
            raise self.draws
        return self.draws


class Goals(Odd):
    """A goal environment whose judgements are made for one pair at a time."""

    def __init__(self):
        box = Box(-9, 9, (2,))
        super().__init__(Dict(observation=box, achieved_goal=box, desired_goal=box))

    def compute_reward(self, achieved, desired, info):
        return -np.linalg.norm(achieved - desired)

    def compute_terminated(self, achieved, desired, info):
        return bool(np.linalg.norm(achieved - desired) < 1)


@pytest.fixture(autouse=True)
def registered():
    before = dict(gym.registry)
    gym.register("odd/Odd-v0", Odd)
    gym.register("odd/Short-v0", Odd, max_episode_steps=7)
    gym.register("odd/Goals-v0", Goals)
    gym.register("odd/Lacking-v0", "no_such_package.worlds:World")
    yield
    gym.registry.clear()
    gym.registry.update(before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with a module of worlds, entered by a console script: it is not on Python's path."""
    (tmp_path / "odd_worlds.py").write_text(WORLD)
    (tmp_path / "raises.py").write_text("raise RuntimeError('out of order')")
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    sys.modules.pop("odd_worlds", None)


def episode(environment: Environment, steps: int, seed: int = 0) -> Episode:
    """Lived with actions of chance."""
    numbers = np.random.default_rng(seed)
    seen, rewards = [environment.reset(seeds=[seed])], []
    actions = numbers.uniform(-1, 1, (steps, 1, environment.spec.action_size)).astype(np.float32)
    for action in actions:
        observation, reward, _, _, _ = environment.step(action)
        seen.append(observation)
        rewards.append(reward[0])
    observations = {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}
    return Episode(environment.id, observations, actions[:, 0], np.array(rewards), False, True, False, seed)


def test_a_world_of_the_users_folder_has_one_identity(folder):
    environment = Environment("odd_worlds:odd/Base-v0")
    assert environment.name == "odd_worlds:odd/Base-v0"
    assert environment.id == environment.spec.environment == "odd/Base-v0"


def test_an_episode_is_lived_again_by_the_name_that_was_typed(folder):
    lived = episode(Environment("odd_worlds:odd/Base-v0"), 3)
    gym.registry.pop("odd/Base-v0")
    sys.modules.pop("odd_worlds")  # as in a fresh process
    with pytest.raises(UsageError, match="no environment 'odd/Base-v0'"):
        difference(lived, {})
    assert difference(lived, {}, "odd_worlds:odd/Base-v0") is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("odd/Od-v0", "did you mean odd/Odd-v0"),
        ("qqqqqqqq", "env list --all"),
        ("no_such_module:a/B-v0", "No module named 'no_such_module'"),
        ("raises:a/B-v0", "module raises cannot be imported: RuntimeError: out of order"),
        ("leaves:a/B-v0", "SystemExit"),
        ("odd_worlds:odd/Bse-v0", "did you mean odd_worlds:odd/Base-v0"),
        ("..:a", "cannot be imported"),
        ("", "no environment ''"),
    ],
)
def test_what_cannot_be_found_is_said(name, reason, folder):
    with pytest.raises(UsageError, match=reason):
        find(name)


def test_a_package_that_is_missing_is_named():
    for work in (lambda: Environment("odd/Lacking-v0"), lambda: make(find("odd/Lacking-v0"), {})):
        with pytest.raises(MissingError, match="no_such_package"):
            work()


def test_wrong_options_are_refused():
    for options in ({"colour": 1}, {"max_episode_steps": -1}, {"max_episode_steps": 1.5}):
        with pytest.raises(UsageError, match="odd/Odd-v0|colour"):
            Environment("odd/Odd-v0", options=options)


@pytest.mark.parametrize(
    ("id", "options", "limit"),
    [
        ("odd/Odd-v0", {}, NO_LIMIT),
        ("odd/Odd-v0", {"max_episode_steps": 5}, 5),
        ("odd/Short-v0", {}, 7),
        ("odd/Short-v0", {"max_episode_steps": None}, 7),
        ("odd/Short-v0", {"max_episode_steps": 4}, 4),
        ("ami/Reach-v0", {}, 50),
        ("ami/Reach-v0", {"max_episode_steps": 6}, 6),
    ],
)
def test_every_world_ends_and_the_spec_says_when(id, options, limit):
    environment = Environment(id, 2, options)
    assert environment.spec.max_episode_steps == limit == make(find(id), options).spec.max_episode_steps
    environment.reset(seeds=[0, 1])
    still = np.zeros((2, environment.spec.action_size), np.float32)
    ends = [environment.step(still)[3] for _ in range(limit)]
    assert not np.any(ends[:-1]) and ends[-1].all()


def test_the_control_period_is_what_an_action_lasts():
    assert control_period(Odd(dt=0.02)) == 0.02 and control_period(Odd()) == 0
    assert control_period(Odd(dt=lambda: 1)) == 0, "dt may be something else altogether"
    assert Environment("ami/Reach-v0").spec.control_period == 0.04
    assert Environment("Pendulum-v1").spec.control_period == 0.05, "not 1/30, its frame rate"


@pytest.mark.parametrize("broken", ["sense", "reward"])
def test_values_that_are_not_finite_make_the_episode_void(broken):
    environment = Environment("odd/Odd-v0", 1, {"breaks": 2, "broken": broken})
    environment.reset(seeds=[0])
    still = np.zeros((1, 1), np.float32)
    environment.step(still)
    observation, reward, terminated, truncated, info = environment.step(still)
    assert truncated[0] and info["physics_error"][0] and not terminated[0]
    assert np.isfinite(observation["observation"]).all() and np.isfinite(reward).all()

    with pytest.raises(NumericalError, match="odd/Odd-v0"):
        assert not any(ended for ended in live(environment, NoopAgent(1), iter(range(100))))


def test_a_world_whose_episodes_all_begin_with_nan_ends_by_its_sense():
    space = Dict(arm=Box(-9, 9, (2,)), leg=Box(-9, 9, (2,)))
    with pytest.raises(NumericalError, match="sense 'arm'"):
        list(live(Environment("odd/Odd-v0", 2, {"space": space, "breaks": 0}), NoopAgent(1), iter(range(99))))


def test_a_box_of_any_shape_is_a_vector_and_images_are_left_out(capsys):
    space = Dict(
        {"scalar": Box(-9, 9, ()), "table": Box(-9, 9, (3, 4), np.float64), "ram": Box(0, 255, (5,), np.uint8)}
        | {"eye": Box(0, 255, (8, 8, 3), np.uint8), "depth": Box(0, 9, (64, 64, 1))}
    )
    environment = Environment("odd/Odd-v0", 2, {"space": space})
    assert environment.spec.senses == {"scalar": (1,), "table": (12,), "ram": (5,)}
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith("ignored: depth, eye") and "odd/Odd-v0" in said
    seen = environment.reset(seeds=[0, 1])
    assert {name: value.shape[1:] for name, value in seen.items()} == environment.spec.senses
    assert seen["ram"].dtype == np.uint8 and seen["table"].dtype == np.float32
    assert difference(episode(Environment("odd/Odd-v0", 1, {"space": space}), 3), {"space": space}) is None


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (Box(0, 255, (8, 8, 3), np.uint8), "images only"),
        (gym.spaces.Discrete(3), "Discrete"),
        (Dict(one=Dict(two=Box(-1, 1, (2,)))), "'one' is Dict"),
    ],
)
def test_senses_that_cannot_be_used_are_refused(space, reason):
    with pytest.raises(UsageError, match=reason):
        Environment("odd/Odd-v0", options={"space": space})


def test_any_name_of_a_sense_has_a_layer_and_ordinary_names_keep_theirs():
    ordinary = ["observation", "touch", "achieved_goal", "desired_goal", "lidar"]
    odd = ["arm.pos", "type", "keys", "training", "50%", "%2E", "", "arm%2Epos", "a b"]
    assert [layer_name(name) for name in ordinary] == ordinary
    assert [unquote(layer_name(name)) for name in odd if name] == [name for name in odd if name]
    senses = {name: (2,) for name in [*ordinary, *odd]}
    encoder = SenseEncoder(senses, EncoderConfig(16, 16))
    observation = {name: torch.randn(4, 2) for name in senses}
    encoder.fit(observation)
    before = encoder(observation)
    assert before.shape == (4, 16) and "first.touch.weight" in encoder.state_dict()
    for name in senses:
        changed = {**observation, name: observation[name] + 1}
        assert not torch.equal(before, encoder(changed)), f"{name!r} is not seen"


def test_actions_fill_the_box_and_never_leave_it():
    chance = np.random.default_rng(0).uniform(-2, 2, (1000, 2)).astype(np.float32)
    for box in (
        Box(np.float32([-0.1, 0.3]), np.float32([0.7, 0.9])),
        Box(-3, 5, (2,), np.int64),
        Box(0, 255, (2,), np.uint8),
        Box(-LARGEST_BOUND, LARGEST_BOUND, (2,), np.float64),
    ):
        raw = to_box(chance, box)
        assert raw.dtype == box.dtype and all(one in box for one in raw)
        assert (raw.min(0) == box.low).all() and (raw.max(0) == box.high).all()
    assert to_box(np.float32([0.3, -0.3]), Box(-1, 1, (2,), np.int32)).tolist() == [0, 0]
    assert to_box(np.float32([0.6, -0.6]), Box(-1, 1, (2,), np.int32)).tolist() == [1, -1]
    exact = np.float32([0.1, -0.7])
    assert np.array_equal(to_box(exact, Box(-1, 1, (2,))), exact)


def test_an_environment_gets_whole_numbers_where_it_wants_them():
    environment = Environment("odd/Odd-v0", options={"action": Box(0, 10, (1,), np.int32)})
    environment.reset(seeds=[0])
    environment.step(np.float32([[0.5]]))
    got = environment.vector.envs[0].unwrapped.got
    assert got.dtype == np.int32 and got.tolist() == [8]


@pytest.mark.parametrize("bound", [np.inf, 3e38, 2e6])
def test_unbounded_actions_are_refused(bound):
    with pytest.raises(UsageError, match="unbounded"):
        Environment("odd/Odd-v0", options={"action": Box(-bound, bound, (1,))})


def test_goals_are_judged_pair_by_pair_where_the_environment_cannot_judge_many():
    environment = Environment("odd/Goals-v0")
    assert environment.spec.goals
    achieved, desired = np.float64([[0, 0], [3, 4], [0, 0.5]]), np.zeros((3, 2))
    assert environment.compute_reward(achieved, desired, {}).tolist() == [0, -5, -0.5]
    info = {"observation": np.zeros((3, 2))}
    assert environment.compute_terminated(achieved, desired, info).tolist() == [True, False, True]
    assert environment.compute_terminated(achieved[:1], desired[:1], {}).tolist() == [True]


@pytest.mark.parametrize(
    "draws",
    [
        None,
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        [],
        RuntimeError("no screen"),
    ],
)
def test_a_renderer_that_fails_costs_the_pictures_only(draws):
    options = {"draws": draws}
    assert film_of(episode(Environment("odd/Odd-v0", options=options), 3), options) == []


def test_what_goes_wrong_in_a_film_is_said(capsys, monkeypatch):
    lived = episode(Environment("odd/Odd-v0"), 3)
    monkeypatch.setattr(Odd, "step", lambda self, action: 1 / 0)
    assert film_of(lived, {}) == [] and "ZeroDivisionError" in capsys.readouterr().err


def test_a_film_of_a_long_episode_draws_a_few_moments(monkeypatch):
    picture, drawn = np.zeros((4, 6, 3), np.uint8), []
    lived = episode(Environment("odd/Odd-v0", options={"draws": picture}), 500)
    monkeypatch.setattr(Odd, "render", lambda self: drawn.append(self.t) or self.draws)
    film = film_of(lived, {"draws": picture}, most=20)
    assert len(film) == 20 and len(drawn) == 21, "one more to see whether it can be drawn"
    assert drawn[1] == 0 and drawn[-1] == 500 and len(np.unique(np.diff(drawn[1:]))) <= 2
    assert len(film_of(lived, {"draws": picture})) == 200
    assert film[0] is not picture


def test_a_world_without_a_screen_is_quiet(tmp_path):
    """Gymnasium's own MuJoCo renderer needs OpenGL, and GLFW complains of a missing screen at length."""
    code = """if True:
        import numpy as np
        from ami_agent.evaluation.resimulate import film_of
        from ami_agent.protocols import Episode
        lived = Episode("InvertedPendulum-v5", {}, np.zeros((2, 1), np.float32), np.zeros(2), False, True, False)
        print(len(film_of(lived, {})) in (0, 3))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n" and "GLFW" not in done.stderr and "Exception" not in done.stderr
