"""The layouts of uploaded products, for the model that draws from now on.

A model with a layout bank draws a product from the layout of the known one with the nearest title. So photos
of a product are of use at once, whatever comes of the challenger's networks: the bank of the model that will
draw gets their layouts, those of products that are held out from training among them. That is done after both
models were measured, so that a held-out photo is not measured against its own layout.
"""

from collections.abc import Collection
from pathlib import Path

from toygan.data.layout_bank import LayoutBank
from toygan.errors import BadInput
from toygan.generation.model import Model
from toygan.generation.photos import photos_of


def bank_with(model: Model, photos: Path, skus: Collection[str]) -> bytes | None:
    """The file of the model's layout bank with the layouts of those products in it.

    `photos`: see `toygan.data.sources`. None
    where the model has no bank, or nothing comes to it.
    """
    bank, encoder = model.layout_bank, model.text_encoder
    if bank is None or encoder is None:
        return None
    for split in ("train", "val"):
        try:
            found = photos_of(model, photos, split=split, keep_sku=frozenset(skus).__contains__)
        except BadInput:  # none of these products is in this split
            continue
        bank = LayoutBank.of(
            found,
            embed=encoder.embed,
            classes=bank.classes,
            temperature=bank.temperature,
            earlier=bank,
        )
    return None if bank is model.layout_bank else bank.to_file()
