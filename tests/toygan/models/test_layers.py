import pytest
import torch
from torch import nn

from toygan.models.embedding import WHITENING_SHARE, ConditionEmbedding, Whitening
from toygan.models.layers import ConditionalBatchNorm2d


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


def test_whitening_makes_all_directions_about_as_long() -> None:
    """Deviations of 10 and 1 along two axes that are turned: with the share s of the mean variance 50.5 they
    become 10 / sqrt(100 + 50.5 s) and 1 / sqrt(1 + 50.5 s)."""
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    spread = torch.tensor([[10.0, 1.0], [10.0, -1.0], [-10.0, 1.0], [-10.0, -1.0]])
    texts = spread @ turn.T + torch.tensor([3.0, -7.0])
    whitening = Whitening(2)
    whitening.fit(texts)
    whitened = whitening(texts)
    torch.testing.assert_close(whitened.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    found = whitened.std(0, correction=0).sort().values.tolist()
    share = 50.5 * WHITENING_SHARE
    assert found == pytest.approx([1 / (1 + share) ** 0.5, 10 / (100 + share) ** 0.5], rel=1e-4)


def test_a_text_that_says_nothing_stays_nothing() -> None:
    whitening = Whitening(3)
    whitening.fit(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 5)
    assert whitening(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


def test_without_any_text_nothing_is_whitened() -> None:
    """Photos of a shop that gives no titles: nothing may become NaN."""
    whitening = Whitening(3)
    whitening.fit(torch.zeros(0, 3))
    assert whitening(torch.eye(3)).tolist() == torch.eye(3).tolist()


def test_a_single_text_is_not_whitened() -> None:
    """Otherwise a text that differs a little from it would be a million times as long."""
    whitening = Whitening(3)
    whitening.fit(torch.tensor([[1.0, 2.0, 3.0]] * 4))
    assert whitening(torch.eye(3)).tolist() == torch.eye(3).tolist()


def test_an_embedding_whitens_its_texts_where_it_is_made_to() -> None:
    """Whitening separates two texts that nearly agree."""
    texts = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0.01], [1.0, -0.01], [0.9, 0.01], [0.9, -0.01]])
    )
    conditions = {"category": torch.zeros(4, dtype=torch.int64), "colour": torch.zeros(4, 4), "text": texts}
    distances = {}
    for whiten_text in (False, True):
        torch.manual_seed(0)
        embedding = ConditionEmbedding(categories=1, size=64, text_size=2, whiten_text=whiten_text)
        embedding.fit_whitening(texts)
        embedded = embedding(conditions)
        distances[whiten_text] = (embedded[0] - embedded[1]).norm().item()
    assert distances[True] > 10 * distances[False]
