import pytest
import torch
from torch import nn

from toygan.models.layers import ConditionalBatchNorm2d, ConditionEmbedding


def test_conditional_batch_norm_by_hand() -> None:
    """The values 1 and 3 have mean 2 and variance 1, so they become -1 and 1; gain 1.5, bias 0.25."""
    norm = ConditionalBatchNorm2d(1, condition_size=2)
    nn.init.zeros_(norm.gain.weight)
    nn.init.zeros_(norm.bias.weight)
    nn.init.constant_(norm.gain.bias, 0.5)
    nn.init.constant_(norm.bias.bias, 0.25)
    x = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    result = norm(x, torch.zeros(2, 2)).flatten().tolist()
    assert result == pytest.approx([-1.25, 1.75], abs=1e-4)


def test_every_picture_of_a_batch_gets_its_own_gain_and_bias() -> None:
    norm = ConditionalBatchNorm2d(1, condition_size=1)
    nn.init.ones_(norm.gain.weight)
    nn.init.ones_(norm.bias.weight)
    x = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    result = norm(x, torch.tensor([[0.0], [2.0]])).flatten().tolist()
    # Condition 0: gain 1, bias 0; condition 2: gain 3, bias 2.
    assert result == pytest.approx([-1.0, 3.0 + 2.0], abs=1e-4)


def test_in_evaluation_the_running_statistics_count() -> None:
    norm = ConditionalBatchNorm2d(1, condition_size=1).eval()
    x = torch.tensor([[[[5.0]]]])
    torch.testing.assert_close(norm(x, torch.zeros(1, 1)), x, atol=1e-4, rtol=0)


def test_the_embedding_is_a_sum_of_category_and_colour() -> None:
    embedding = ConditionEmbedding(categories=2, size=3)
    colour = torch.tensor([[0.1, 0.2, 0.3, 1.0]])
    embedded = [embedding({"category": torch.tensor([index]), "colour": colour}) for index in (0, 1)]
    assert embedded[0].shape == (1, 3)
    difference = embedding.category.weight[1] - embedding.category.weight[0]
    torch.testing.assert_close(embedded[1][0] - embedded[0][0], difference)
