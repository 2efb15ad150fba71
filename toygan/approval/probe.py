"""Fits a linear probe, which scores pictures in place of the discriminator.

A discriminator rates its training photos far above all other pictures, even above held-out photos and good
generated pictures. So its logit hardly distinguishes good pictures from bad ones. A linear probe (Alain and
Bengio 2016, "Understanding intermediate layers using linear classifier probes") can take its place. The probe
is a logistic regression that distinguishes photos from generated pictures by the features of a frozen
network. This network was not trained on the photos.

The probe is fitted on the products of the training, because they are many. Its logit is calibrated on the
calibration products. The probe uses the deepest features only. Shallow features show how all pictures of a
generator differ from photos, not which pictures are good. Pictures are enlarged to about the size that the
network was trained on.

This was measured on pictures of unseen products. The KID of the half that the probe rated higher was a
quarter lower than the KID of all pictures. With pictures of 128 pixels it was a sixth lower. With the
features of all depths, or with a fit on the few calibration products, it was not lower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from toygan.artifact.probe_weights import BACKBONE, Floats, ProbeWeights

INVERSE_PENALTY: Final = 3e-4  # scikit-learn's C
DIGITS: Final = 7  # the number of significant digits of a stored weight, as in a float32


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A probe, and the cross-validated logits of the generated pictures that it was fitted to."""

    weights: ProbeWeights
    generated_logits: Mapping[str, Floats]  # (M,) for each category


def fit_probe(
    real: Mapping[str, Floats],
    generated: Mapping[str, Floats],
    *,
    real_products: Mapping[str, Sequence[str]],
    generated_products: Mapping[str, Sequence[str]],
    folds: int,
    seed: int,
) -> FittedProbe:
    """Fits a probe to the evidence of photos (N, K) and of generated pictures (M, K) of each category.

    Photos and generated pictures have the same total weight. `real_products` and `generated_products` name
    the products of the N photos and of the M pictures. All pictures of a product are in the same fold of the
    cross-validation, because they look alike. With fewer than two products there is no cross-validation, and
    the logits are those of the probe itself. Raises ValueError if there are no photos or no pictures.
    """
    # scikit-learn takes a second to import, and scoring does not need it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    groups = [sku for name in real for sku in real_products[name]]
    n_real = len(groups)
    groups += [sku for name in generated for sku in generated_products[name]]
    evidence = np.concatenate([*real.values(), *generated.values()])
    is_real = np.arange(len(evidence)) < n_real
    layer = make_pipeline(
        StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    )
    layer.fit(evidence, is_real)
    scaler, regression = layer[0], layer[1]
    weights = regression.coef_[0] / scaler.scale_
    intercept = regression.intercept_[0] - weights @ scaler.mean_
    fitted = ProbeWeights(
        backbone=BACKBONE,
        weights=tuple(rounded(weight) for weight in weights),
        intercept=rounded(intercept),
    )
    folds = min(folds, len(set(groups[:n_real])), len(set(groups[n_real:])))
    if folds < 2:
        logits = fitted.logits(evidence)
    else:
        numbers = np.unique(groups, return_inverse=True)[1]
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        logits = cross_val_predict(
            layer, evidence, is_real, groups=numbers, cv=split, method="decision_function"
        )
    ends = np.cumsum([len(each) for each in generated.values()])
    of_generated = zip(generated, np.split(logits[n_real:], ends[:-1]), strict=True)
    return FittedProbe(weights=fitted, generated_logits=dict(of_generated))


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
