"""The averaged weights: closed form, warm-up, batch norm buffers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lisard_ros.errors import DataError
from lisard_trainer.training import ema


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


@given(st.floats(0.5, 0.99999), st.integers(1, 10**6))
def test_decay_warms_up_and_stays_below_its_limit(decay, step):
    assert 0 < ema.decay_at(decay, step) <= ema.decay_at(decay, step + 1) <= decay
    assert ema.decay_at(0.999, 1) == 2 / 11
    assert ema.decay_at(0.999, 10**7) == 0.999


def test_average_is_the_weighted_sum_of_the_steps():
    """Reference: the recursion written out for one weight."""
    trained = network()
    average = ema.Average(trained, 0.9)
    expected = trained[0].weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            trained[0].weight.add_(torch.randn_like(trained[0].weight))
        average.update(trained, step)
        decay = ema.decay_at(0.9, step)
        expected = decay * expected + (1 - decay) * trained[0].weight.detach()
    assert torch.allclose(average.network[0].weight, expected, atol=1e-6)


def test_constant_weights_stay_as_they_are():
    trained = network()
    average = ema.Average(trained, 0.99)
    for step in range(1, 20):
        average.update(trained, step)
    assert torch.equal(average.network[0].weight, trained[0].weight)


def test_running_statistics_are_averaged_and_counters_copied():
    trained = network().train()
    average = ema.Average(trained, 0.9)
    trained(torch.randn(8, 3, 8, 8) + 3)
    average.update(trained, 1)
    share = 1 - ema.decay_at(0.9, 1)
    assert torch.allclose(average.network[1].running_mean, share * trained[1].running_mean)
    assert average.network[1].num_batches_tracked == 1


def test_average_is_apart_from_the_network_and_never_trains():
    trained = network().train()
    average = ema.Average(trained, 0.9)
    assert not average.network.training and trained.training
    assert not any(p.requires_grad for p in average.network.parameters())
    assert average.network[0].weight.data_ptr() != trained[0].weight.data_ptr()


def test_loading_refuses_other_weights():
    average = ema.Average(network(), 0.9)
    average.load(network().state_dict())
    with pytest.raises(DataError, match="averaged weights of the checkpoint: found [0-9]+ missing"):
        average.load({})
