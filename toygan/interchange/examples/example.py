"""Generates the pictures of the example: `python example.py`. Needs numpy, pillow and what run_network.py
imports.

The inputs are in example_inputs.npz. interchange.json says how other inputs are made. A model in two parts
also needs scikit-image, for region_vote.py.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from run_network import run

FOLDER = Path(__file__).parent


def joined(products: Any, grounds: Any, inputs: dict[str, Any], said: dict[str, Any]) -> Any:
    """Steers the products' colours and joins them with their grounds by the masks."""
    from steering import steer

    axis, light = said["channels_axis"], np.float32(said["studio_light"])
    masks = (np.moveaxis(inputs["photo"], axis, 1)[:, 3] + 1) / 2
    products = np.moveaxis(products, axis, 1)
    steered = [steer(*each, light) for each in zip(products, masks, inputs["colour"], strict=True)]
    mask = np.expand_dims(masks, axis)
    return mask * np.moveaxis(np.stack(steered), 1, axis) + (1 - mask) * grounds


def main() -> None:
    said = json.loads((FOLDER / "interchange.json").read_text(encoding="utf-8"))
    inputs = dict(np.load(FOLDER / "example_inputs.npz"))
    axis = said["channels_axis"]
    if "layout" in said["networks"]:
        from region_vote import vote_by_region

        probabilities, labels = run("layout", inputs)
        probabilities = np.moveaxis(probabilities, axis, 1)
        paper = (inputs["sketch"].squeeze(axis) + 1) / 2
        votes = [vote_by_region(*each) for each in zip(probabilities, paper, labels.tolist(), strict=True)]
        inputs["predicted_layout"] = np.stack(votes)
    images, *ground = run("generator", inputs)
    if ground:
        images = joined(images, ground[0], inputs, said)
    pixels = np.rint((images.clip(-1, 1) + 1) * 127.5)
    if "enhancer" in said["networks"]:
        inputs["small"] = (pixels / 127.5 - 1).astype(np.float32)
        (images,) = run("enhancer", inputs)
        pixels = np.rint((images.clip(-1, 1) + 1) * 127.5)
    if "probe" in said["networks"]:
        inputs["images"] = (pixels / 127.5 - 1).astype(np.float32)
        (logits,) = run("probe", inputs)
        for category, logit in zip(inputs["category"], logits, strict=True):
            of = said["calibration"][said["categories"][category]]
            score = 1 / (1 + np.exp(-(of["coef"] * logit + of["intercept"])))
            print(f"{said['categories'][category]}: score {score:.3f}, threshold {of['threshold']:.3f}")
    for number, picture in enumerate(np.moveaxis(pixels.astype(np.uint8), axis, 3)):
        Image.fromarray(picture).save(FOLDER / f"picture-{number}.png")


if __name__ == "__main__":
    main()
