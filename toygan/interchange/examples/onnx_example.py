"""Draws the example's pictures: `python example.py`. Needs numpy, pillow and onnxruntime.

The inputs are those of example_inputs.npz; interchange.json says how others are made. A model in two parts
also needs scikit-image, for region_vote.py.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

FOLDER = Path(__file__).parent


def run(name: str, inputs: dict[str, Any]) -> list[Any]:
    """Runs a network of the folder; it takes what it needs of the inputs."""
    session = onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])
    wanted = [port.name for port in session.get_inputs()]
    found: list[Any] = session.run(None, {name: inputs[name] for name in wanted})
    return found


def main() -> None:
    said = json.loads((FOLDER / "interchange.json").read_text(encoding="utf-8"))
    inputs = dict(np.load(FOLDER / "example_inputs.npz"))
    if "layout" in said["networks"]:
        from region_vote import vote_by_region

        probabilities, labels = run("layout", inputs)
        paper = (inputs["sketch"][:, 0] + 1) / 2
        votes = [vote_by_region(*each) for each in zip(probabilities, paper, labels.tolist(), strict=True)]
        inputs["predicted_layout"] = np.stack(votes)
    (images,) = run("generator", inputs)
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
    for number, picture in enumerate(pixels.astype(np.uint8).transpose(0, 2, 3, 1)):
        Image.fromarray(picture).save(FOLDER / f"picture-{number}.png")


if __name__ == "__main__":
    main()
