"""The encoder: senses that are missing, constant, or in any unit."""

import pytest
import torch

from ami_agent.errors import UsageError
from ami_agent.perception.encoder import EncoderConfig, Normaliser, SenseEncoder


def test_a_missing_sense_is_left_out():
    torch.manual_seed(0)
    encoder = SenseEncoder({"observation": (3,), "touch": (2,)}, EncoderConfig(latent=16, width=32))
    seen = {"observation": torch.randn(4, 3), "touch": torch.randn(4, 2)}
    whole, part = encoder(seen), encoder({"observation": seen["observation"]})
    assert whole.shape == part.shape == (4, 16)
    assert not torch.allclose(whole, part)
    assert torch.allclose(whole.view(4, 2, 8).sum(-1), torch.ones(4, 2), atol=1e-6)


def test_images_only_is_refused_with_what_is_supported():
    with pytest.raises(UsageError, match="images are not learned from yet"):
        SenseEncoder({"rgb": (64, 64, 3)})


@pytest.mark.parametrize("unit", [1e-6, 1.0])
def test_senses_may_be_in_any_unit_and_noise_is_not_blown_up(unit):
    torch.manual_seed(0)
    values = torch.randn(1000, 3) * torch.tensor([1.0, 0.1, 1e-7]) * unit
    normaliser = Normaliser(3)
    normaliser.fit(values)
    spread = normaliser(values).std(0)
    assert spread[:2] == pytest.approx([1, 1], rel=1e-2) and spread[2] < 0.2


def test_a_constant_sense_does_not_blow_up():
    normaliser = Normaliser(2)
    normaliser.fit(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    assert torch.isfinite(normaliser(torch.tensor([[1.0, 1.0]]))).all()


@pytest.mark.parametrize("often", [0.001, 0.3])
def test_what_a_failing_sensor_tells_does_not_drown_the_rest(often):
    torch.manual_seed(0)
    values = torch.randn(10_000, 2) + 3
    clean, failing = Normaliser(2), Normaliser(2)
    clean.fit(values)
    failing.fit(torch.where(torch.rand(10_000, 2) < often, 1e12, values))
    assert failing.std.tolist() == pytest.approx(clean.std.tolist(), rel=often)
    assert failing(torch.full((1, 2), 1e12)).tolist() == [[10.0, 10.0]]
    few = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1e4, 2.0]])  # large, but not outlandish
    clean.fit(few)
    assert clean.mean.tolist() == few.mean(0).tolist() and clean.std.tolist() == few.std(0).tolist()
