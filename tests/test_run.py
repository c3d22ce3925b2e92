"""`ami-agent run` as a user meets it: what it prints, what it keeps, and what it says when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ami_agent.brain import Brain, BrainConfig
from ami_agent.brains import learned_path
from ami_agent.environment import Environment
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.world_model.latent import ModelConfig

SMALL = BrainConfig(EncoderConfig(latent=16, width=32), ModelConfig(width=32))
KEYS = {
    "env", "agent", "seed", "episodes", "success_rate", "return_mean", "env_steps", "steps_per_second", "plan_ms",
    "memory", "run",
}  # fmt: skip
REACH = ["run", "--env", "ami/Reach-v0", "--episodes", "2", "--seed", "1"]


@pytest.fixture
def place(tmp_path):
    """A folder with a home whose agent has an untrained brain for Reach."""
    brain = Brain(Environment("ami/Reach-v0", 1).spec, SMALL)
    brain.save(learned_path(tmp_path / "home" / "agents" / "default", "ami/Reach-v0"))
    return tmp_path


def environment_of(place):
    return {**os.environ, "AMI_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}


def ami(place, *words):
    command = [sys.executable, "-m", "ami_agent", *words]
    return subprocess.run(command, cwd=place, env=environment_of(place), capture_output=True, text=True, timeout=120)


def result(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_prints_one_object_and_leaves_a_report_that_needs_no_network(place):
    facts = result(ami(place, *REACH, "--json"))
    assert facts.keys() >= KEYS and facts["memory"].keys() == {"episodes", "steps"}
    assert facts["episodes"] == 2 and facts["memory"]["episodes"] == 2
    folder = place / facts["run"]
    page = (folder / "report.html").read_text()
    assert "data:image/gif" in page and "http://" not in page and "https://" not in page
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_memory_grows_from_process_to_process(place):
    first, second = result(ami(place, *REACH, "--json")), result(ami(place, *REACH, "--json"))
    assert second["memory"]["episodes"] == first["memory"]["episodes"] + 2
    assert second["memory"]["steps"] > first["memory"]["steps"]
    recalled = result(ami(place, *REACH, "--memory", "read-only", "--json"))
    assert recalled["memory"] == second["memory"]


def test_without_memory_the_same_command_gives_the_same_numbers(place):
    timings = {"steps_per_second", "plan_ms", "run"}
    runs = [result(ami(place, *REACH, "--memory", "off", "--json")) for _ in range(2)]
    assert all(one["memory"] == {"episodes": 0, "steps": 0} for one in runs)
    one, two = ({key: value for key, value in run.items() if key not in timings} for run in runs)
    assert one == two


def test_a_run_can_be_lived_again_to_the_bit(place):
    facts = result(ami(place, *REACH, "--json"))
    verified = result(ami(place, "replay", facts["run"], "--verify", "--json"))
    assert verified == {"episodes": 2, "equal": 2, "differences": {}}
    shown = result(ami(place, "replay", facts["run"], "--episode", "2", "--json"))
    assert (place / shown["video"]).read_bytes()[:3] == b"GIF"


@pytest.mark.parametrize("who", ["random", "noop", "oracle", "oracle-planner"])
def test_every_baseline_runs(place, who):
    facts = result(ami(place, *REACH, "--agent", who, "--json"))
    assert facts["agent"] == who and facts["memory"]["episodes"] == 0
    assert facts["success_rate"] == (1.0 if "oracle" in who else 0.0)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--env", "ami/Rech-v0"], 2, "did you mean ami/Reach-v0"),
        (["--env", "ami/Reach-v0", "--episodes", "0"], 2, "from 1 to"),
        (["--env", "ami/Reach-v0", "--seed", "-1"], 2, "from 0 to"),
        (["--env", "ami/Reach-v0", "--options", "[1]"], 2, "JSON object"),
        (["--env", "ami/Reach-v0", "--options", '{"colour": 1}'], 2, "no option 'colour'"),
        (["--env", "ami/Reach-v0", "--weights", "nowhere.safetensors"], 2, "no weights at"),
        (["--env", "ami/Reach-v0", "--learn", "--memory", "off"], 2, "--learn needs"),
        (["--env", "ami/Reach-v0", "--planner.horizon", "0"], 2, "from 1 to"),
        (["--env", "CartPole-v1"], 2, "flat Box with finite bounds"),
        (["--env", "Pendulum-v1", "--agent", "oracle"], 2, "no oracle"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(place, words, code, reason):
    done = ami(place, "run", *words)
    assert done.returncode == code, done.stderr
    assert reason in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_damaged_weights_are_refused_and_kept(place):
    path = learned_path(place / "home" / "agents" / "default", "ami/Reach-v0")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = ami(place, *REACH)
    assert done.returncode == 4 and str(path.name) in done.stderr
    assert path.read_bytes() == data


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
def test_a_damaged_memory_is_refused_and_kept(place, content):
    path = place / "home" / "agents" / "default" / "memory.sqlite"
    path.write_bytes(content)
    done = ami(place, *REACH)
    assert done.returncode == 4 and "damaged" in done.stderr
    assert path.read_bytes() == content


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_ctrl_c_saves_and_a_second_process_is_told_who_holds_the_home(place):
    command = [sys.executable, "-m", "ami_agent", "run", "--env", "ami/Reach-v0", "--episodes", "100000"]
    running = subprocess.Popen(command, cwd=place, env=environment_of(place), stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: any(place.glob("runs/*/metrics.jsonl")))
        other = ami(place, *REACH)
        assert other.returncode == 75 and str(running.pid) in other.stderr
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    folder = next(place.glob("runs/*"))
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    lived = len((folder / "metrics.jsonl").read_text().splitlines())
    facts = result(ami(place, *REACH, "--json"))
    assert facts["memory"]["episodes"] - lived in (2, 3), "what was lived is remembered, cut short or not"


def test_without_weights_it_trains_first(tmp_path):
    words = ["run", "--env", "InvertedPendulum-v5", "--episodes", "1", "--train-steps", "3000", "--json"]
    facts = result(ami(tmp_path, *words))
    assert facts["weights"] == "learned" and facts["success_rate"] is None
    assert learned_path(tmp_path / "home" / "agents" / "default", "InvertedPendulum-v5").exists()


def test_learning_while_acting_moves_the_weights_and_keeps_them(place):
    path = learned_path(place / "home" / "agents" / "default", "ami/Reach-v0")
    before = Brain.load(path)
    words = ["--episodes", "30", "--learn", "--json"]
    result(ami(place, "run", "--env", "ami/Reach-v0", *words))
    after = Brain.load(path)
    assert after.updates > before.updates == 0 and after.encoder_id() != before.encoder_id()
