"""The model as the planner sees it: the same answers in fp32 or bf16, beside others or alone, captured or not."""

import numpy as np
import pytest
import torch

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain
from ami_agent.brains import shipped_path
from ami_agent.cost.objectives import Return
from ami_agent.learning.learner import Learner
from ami_agent.planning.cem import CEM, imagine
from ami_agent.planning.graphed import Graphed
from ami_agent.protocols import Batch
from ami_agent.world_model.inference import ONEDNN, Inference, Net

TOLERANCE = {"fp32": 1e-5, "bf16": 0.1}
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture
def brain():
    return Brain.load(shipped_path("ami/Reach-v0"))


def moments(brain, *shape):
    """Latents and actions as they occur, from a seed."""
    generator = torch.Generator().manual_seed(0)
    d, a = brain.config.encoder.latent, brain.spec.action_size
    latent = torch.randn(*shape, d // 8, 8, generator=generator).softmax(-1).flatten(-2)
    return latent, torch.rand(*shape, a, generator=generator) * 2 - 1


def answers(model, latent, action):
    return [
        model.predict(latent, action),
        model.reward(latent, action),
        model.termination(latent),
        model.value(latent),
        model.act(latent),
        model.act(latent, action),
    ]


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_answers_as_the_model_does(brain, precision):
    inference = Inference(brain.model, precision)
    latent, action = moments(brain, 2, 40)
    pairs = zip(answers(brain.model, latent, action), answers(inference.view, latent, action), strict=True)
    for ours, theirs in pairs:
        assert theirs.dtype == torch.float32 and theirs.shape == ours.shape
        assert (ours - theirs).abs().max() <= TOLERANCE[precision] * ours.abs().max().clamp(min=1)


@torch.no_grad()
@pytest.mark.skipif(not ONEDNN, reason="needs AVX-512")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_row_is_the_same_whatever_else_is_in_the_batch(brain, precision):
    view = Inference(brain.model, precision).view
    latent, action = moments(brain, 400)
    whole = [view.predict(latent, action), view.reward(latent, action)]
    for n in (8, 73, 75):
        part = [view.predict(latent[:n], action[:n]), view.reward(latent[:n], action[:n])]
        assert all(torch.allclose(a[:n], b, atol=1e-6) for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_learned_or_loaded_is_taken_up(brain, precision):
    inference = Inference(brain.model, precision)
    latent, action = moments(brain, 20)
    senses = {name: torch.rand(8, 3, *shape) for name, shape in brain.spec.senses.items()}
    batch = Batch(senses, moments(brain, 8, 2)[1], torch.rand(8, 2), torch.zeros(8, 2), torch.ones(8, 2))
    old = {name: value.clone() for name, value in brain.model.state_dict().items()}

    def check():
        inference.refresh(brain.updates)
        with torch.no_grad():
            got, expected = inference.view.reward(latent, action), brain.model.reward(latent, action)
        assert (got - expected).abs().max() <= TOLERANCE[precision] * expected.abs().max().clamp(min=1)
        return got

    before, learner, generator = check(), Learner(brain), torch.Generator().manual_seed(0)
    for _ in range(5):
        learner.update(batch, generator)
    assert not torch.equal(check(), before)
    brain.model.load_state_dict(old)
    assert torch.equal(check(), before)


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_that_lie_elsewhere_are_taken_up(brain, precision):
    inference, (latent, action) = Inference(brain.model, precision), moments(brain, 20)
    assert not inference.refresh(0) and not inference.refresh(1)
    new = {name: value.clone() for name, value in brain.model.state_dict().items()}
    new["reward_head.6.weight"] *= 2
    view = inference.view
    brain.model.load_state_dict(new, assign=True)
    assert inference.refresh(1) and not inference.refresh(1) and inference.view is view
    got, expected = view.reward(latent, action), brain.model.reward(latent, action)
    assert (got - expected).abs().max() <= TOLERANCE[precision] * expected.abs().max().clamp(min=1)
    brain.model.to("meta")
    assert inference.refresh(1) and view.reward(latent.to("meta"), action.to("meta")).device.type == "meta"


@torch.no_grad()
def test_heads_of_another_make_answer_themselves(brain):
    width, model = brain.config.model.width, brain.model
    model.policy[1].eps = 1e-2
    model.reward_head[2] = torch.nn.ReLU()
    model.end_head = torch.nn.Linear(brain.config.encoder.latent, 1)
    model.dynamics[0][3] = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(width, width))
    latent, action = moments(brain, 20)
    view = Inference(model, "fp32").view
    assert [type(getattr(view, name)) for name in ("policy", "end_head")] == [torch.nn.Sequential, torch.nn.Linear]
    assert isinstance(view.critics[0], Net)
    for ours, theirs in zip(answers(model, latent, action), answers(view, latent, action), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_plans_in_half_are_as_good(brain):
    """Judged by the model in fp32, plans found in bf16 cost no more than 1 % of their spread more."""
    latent, _ = moments(brain, 32)
    start, seeds = torch.zeros(32, 3, brain.spec.action_size), torch.arange(32)
    judge = Return(brain.model, brain.model.discount)
    costs = []
    for precision in ("fp32", "bf16"):
        inference = Inference(brain.model, precision)
        inference.refresh(0)
        objective = Return(inference.view, brain.model.discount)
        plan = CEM().plan(inference.view, latent, objective, seeds, start)[:, None]
        costs.append(judge(imagine(brain.model, latent, plan), plan)[:, 0])
    assert (costs[1] - costs[0]).mean() <= 0.01 * costs[0].std()


def inputs(agent, worlds, device):
    """What a plan starts from, with four memories."""
    config, size = agent.config.planner, agent.brain.spec.action_size
    return (
        moments(agent.brain, worlds)[0].to(device),
        torch.zeros(worlds, config.horizon, size, device=device),
        torch.arange(worlds, device=device),
        torch.zeros(worlds, dtype=torch.bool, device=device),
        torch.zeros(worlds, 4, config.horizon, size, device=device),
        torch.ones(worlds, 4, device=device),
        torch.ones(worlds, dtype=torch.bool, device=device),
    )


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_plan_never_waits_for_its_device(precision):
    """On a device without data nothing can hang on data, and nothing can mix devices: a CUDA graph can hold it."""
    with torch.inference_mode(False):
        agent = AmiAgent(Brain.load(shipped_path("ami/Reach-v0")), AgentConfig(precision=precision), device="meta")
    plan = agent._from_here(*inputs(agent, 2, "meta"))
    assert plan.shape == (2, 3, agent.brain.spec.action_size) and plan.device.type == "meta"


@torch.inference_mode()
@pytest.mark.skipif(not ONEDNN, reason="needs AVX-512")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_from_the_same_latent_a_world_plans_the_same_alone_and_beside_others(precision):
    with torch.inference_mode(False):
        agent = AmiAgent(Brain.load(shipped_path("ami/Reach-v0")), AgentConfig(precision=precision))
    together = inputs(agent, 6, "cpu")
    plans = agent._from_here(*together)
    for i in range(6):
        alone = agent._from_here(*(one[i : i + 1] for one in together))
        assert torch.allclose(alone[0], plans[i], atol=1e-4)


def test_on_the_processor_a_graph_is_the_function_itself():
    double = Graphed(lambda x: 2 * x)
    assert torch.equal(double(torch.ones(3)), torch.full((3,), 2.0)) and not double._graphs


@gpu
@torch.inference_mode()
@pytest.mark.parametrize("worlds", [1, 5])
def test_a_captured_plan_is_the_processors_plan(worlds):
    plans = []
    for device in ("cpu", "cuda"):
        with torch.inference_mode(False):
            agent = AmiAgent(Brain.load(shipped_path("ami/Reach-v0")), AgentConfig(precision="fp32"), device=device)
        for _ in range(2):  # the second is a replay
            plans.append(agent._think(*inputs(agent, worlds, device)).cpu())
        assert len(agent._think._graphs) == (device == "cuda")
    for plan in plans[1:]:
        assert torch.allclose(plan, plans[0], atol=1e-3)


@gpu
@torch.inference_mode()
def test_graphs_that_share_a_pool_do_not_disturb_each_other():
    work = Graphed(lambda x: (x.sin() @ x.T).cos() @ x)
    inputs = [torch.randn(n, 8, device="cuda") for n in (64, 5, 200, 5)]
    for x in (*inputs, *reversed(inputs)):
        assert torch.allclose(work(x), (x.sin() @ x.T).cos() @ x, atol=1e-4)
    assert len(work._graphs) == 3


@gpu
def test_weights_that_move_to_another_device_are_planned_with_there():
    agent = AmiAgent(Brain.load(shipped_path("ami/Reach-v0")), AgentConfig(precision="fp32"))
    agent.reset(np.ones(2, bool))
    latent = moments(agent.brain, 2)[0]
    first = agent.decide(latent)
    agent.brain.model.to("cuda")
    assert torch.allclose(agent.decide(latent.to("cuda")).cpu(), first, atol=1e-3)


@gpu
@torch.inference_mode()
def test_a_graph_sees_what_is_learned():
    weight = torch.ones(3, device="cuda")
    scaled = Graphed(lambda x: weight * x)
    assert scaled(torch.ones(3, device="cuda")).tolist() == [1, 1, 1]
    weight.mul_(2)
    assert scaled(torch.full((3,), 3.0, device="cuda")).tolist() == [6, 6, 6]
