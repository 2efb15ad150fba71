"""Semantic consistency: what it costs, by hand, whom it teaches, and whom not."""

from math import log

import pytest
import torch

from tests.toygan.training.steps import train
from tests.toygan.training.tiny import tiny
from toygan.data.photos import PhotoSet
from toygan.images import from_uint8
from toygan.training.auxiliary_classifier import AuxiliaryClassifier, semantic_loss
from toygan.training.batches import sample_batch, step_rng
from toygan.training.config import TrainConfig
from toygan.training.state import start
from toygan.training.step import train_step

CPU = torch.device("cpu")


def test_the_loss_by_hand() -> None:
    """The right categories have odds of 3 to 1 and of 1 to 1. Only the first colour is known: it is missed by
    1, 0 and 0.5."""
    category = torch.tensor([[log(3), 0.0], [0.0, 0.0]])
    colour = torch.tensor([[[1.0, 0.2, 0.5]], [[9.0, 9.0, 9.0]]])
    conditions = {
        "category": torch.tensor([0, 1]),
        "colour": torch.tensor([[0.0, 0.2, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]),
    }
    of_categories = (-log(3 / 4) - log(1 / 2)) / 2
    of_colours = (1 + 0 + 0.25) / 3
    loss = semantic_loss((category, colour), conditions)
    assert loss.item() == pytest.approx(of_categories + of_colours)


def test_accents_weigh_as_much_as_the_main_colour() -> None:
    """Of two products with room for two accents three colours are known: they are missed by 1, 0.5 and 0."""
    read = torch.zeros(2, 3, 3)
    conditions = {
        "category": torch.tensor([0, 0]),
        "colour": torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0]]),
        "accents": torch.tensor([[0, 0.5, 0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 9, 9, 9, 0]]),
    }
    loss = semantic_loss((torch.zeros(2, 4), read), conditions)
    assert loss.item() == pytest.approx(log(4) + (1 + 0.25 + 0) / 9)


def test_unknown_colours_cost_nothing() -> None:
    conditions = {"category": torch.tensor([0]), "colour": torch.zeros(1, 4)}
    loss = semantic_loss((torch.zeros(1, 4), torch.full((1, 1, 3), 7.0)), conditions)
    assert loss.item() == pytest.approx(log(4))


def test_shapes_and_parameters() -> None:
    """Four 3 x 3 convolutions, then a linear layer each for category and colour."""
    auxiliary_classifier = AuxiliaryClassifier(categories=5)
    convolutions = (3 * 9 + 1) * 16 + (16 * 9 + 1) * 32 + (32 * 9 + 1) * 64 + (64 * 9 + 1) * 64
    heads = 65 * 5 + 65 * 3
    assert sum(each.numel() for each in auxiliary_classifier.parameters()) == convolutions + heads
    for side in (32, 64):
        category, colour = auxiliary_classifier(torch.zeros(2, 3, side, side))
        assert (category.shape, colour.shape) == ((2, 5), (2, 1, 3))
    assert AuxiliaryClassifier(categories=5, accent_colours=2)(torch.zeros(2, 3, 32, 32))[1].shape == (
        2,
        3,
        3,
    )


def generator_loss(photos: PhotoSet, weight: float) -> float:
    """Of the first step."""
    config = tiny(precision="fp32", semantic_weight=weight)
    state = start(config, categories=2, device=CPU)
    rng = step_rng(0, 0)
    batch = sample_batch(photos, torch.arange(4), config, state.generator.latent_size, rng)
    return train_step(state, batch, config, rng)[0].item()


def test_the_generator_pays_by_the_weight(photos: PhotoSet) -> None:
    without, once, thrice = (generator_loss(photos, weight) for weight in (0.0, 1.0, 3.0))
    assert once > without + 0.1
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)


def auxiliary_classifier_after(photos: PhotoSet, config: TrainConfig, steps: int) -> AuxiliaryClassifier:
    auxiliary_classifier = train(photos, config, steps=steps).auxiliary_classifier
    assert auxiliary_classifier is not None
    return auxiliary_classifier


def test_it_learns_from_photos_alone(photos: PhotoSet) -> None:
    one = auxiliary_classifier_after(photos, tiny(semantic_weight=1.0), 3)
    other = auxiliary_classifier_after(
        photos, tiny(semantic_weight=5.0, loss="minimax", generator_lr=1e-2), 3
    )
    values = other.state_dict()
    assert all(torch.equal(value, values[key]) for key, value in one.state_dict().items())


@pytest.mark.slow
def test_it_learns_to_read_photos(photos: PhotoSet) -> None:
    auxiliary_classifier = auxiliary_classifier_after(
        photos, tiny(semantic_weight=1.0, batch_size=8, colour_dropout=0.0), 150
    )
    conditions = photos.conditions(torch.arange(8))
    with torch.no_grad():
        recognised = auxiliary_classifier(from_uint8(photos.images))
    assert recognised[0].argmax(1).tolist() == photos.category.tolist()
    assert semantic_loss(recognised, conditions) < 0.1  # measured: 0.002; a fresh one has 1.4
