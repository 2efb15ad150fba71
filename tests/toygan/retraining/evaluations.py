"""Evaluations with the figures that a test wants."""

from collections.abc import Mapping

import numpy as np

from toygan.evaluation.metrics import Estimate
from toygan.evaluation.result import Evaluation, Group, Pair, Scores

Kid = tuple[float, float]  # value and standard error


def scores(kid: Kid | None, recall: float | None = None, pictures: int = 60) -> Scores:
    estimate = None if kid is None else Estimate(value=kid[0], error=kid[1])
    return Scores(pictures=pictures, kid=estimate, recall=recall)


def evaluation(
    kid: Kid | None = (0.050, 0.001),
    recall: float | None = 0.5,
    categories: Mapping[str, Kid | None] | None = None,
    *,
    version: str = "0" * 12,
    photos: int = 20,
) -> Evaluation:
    pair = Pair(
        category="brick",
        colour_hex=None,
        seed=1,
        sku="a",
        distance=1.0,
        pixels=np.zeros((2, 4, 4, 3), np.uint8),
    )
    given = {"brick": (0.05, 0.001), "car": (0.05, 0.001)} if categories is None else categories
    return Evaluation(
        model="tiny",
        version=version,
        family="dcgan",
        resolution=32,
        feature_network="network",
        seed=0,
        neighbours=5,
        overall=Group(pictures=scores(kid, recall), photos=scores(None)),
        training_photos=scores((0.001, 0.001), 0.9),
        categories={
            name: Group(pictures=scores(each, recall), photos=scores(None, pictures=photos))
            for name, each in given.items()
        },
        near_copies=0.0,
        closest=(pair,),
    )
