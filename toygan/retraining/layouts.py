"""Adds the layouts of uploaded products to the layout bank of the next champion.

A model with a layout bank generates a product from the layout of a product in the bank with a similar title.
So the photos of a product help at once, even if the challenger is not promoted: their layouts are added to
the bank of the next champion. Products that are held out from training are added, too. All this happens after
both models were measured, so that no photo is measured with a layout that this retraining added. From the
next retraining on, the bank of both models has the layouts of earlier held-out products, and the figures of
both include these.
"""

from collections.abc import Collection
from pathlib import Path

from toygan.artifact.model import Model
from toygan.calibration.photos import photos_of
from toygan.errors import BadInput
from toygan.training.layout_bank import make_layout_bank


def bank_with(model: Model, photos: Path, skus: Collection[str]) -> bytes | None:
    """Returns the file of the model's layout bank with the layouts of the products `skus` added.

    `photos`: see `toygan.data.sources`. Returns None if the model has no bank, or if no layout was added.
    """
    bank, encoder = model.layout_bank, model.text_encoder
    if bank is None or encoder is None:
        return None
    for split in ("train", "val"):
        try:
            found = photos_of(
                model, photos, split=split, keep_sku=frozenset(skus).__contains__, as_files=True
            )
        except BadInput:  # this split has none of these products
            continue
        bank = make_layout_bank(
            found,
            embed=encoder.embed,
            classes=bank.classes,
            temperature=bank.temperature,
            earlier=bank,
        )
    return None if bank is model.layout_bank else bank.to_file()
