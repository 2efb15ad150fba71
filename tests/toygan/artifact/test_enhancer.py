import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests.enhancers import NETWORK, tiny_enhancer
from tests.models import TinyFiles, condition_file, config_json, tiny_model
from toygan.artifact.enhancer import Enhancer, enhancer_files, load_enhancer, resize_drawings
from toygan.artifact.files import ModelFiles
from toygan.artifact.load import read_scope
from toygan.artifact.model import Model
from toygan.conditions.image import READERS, encode_images
from toygan.conditions.product import ProductConditions
from toygan.errors import ModelError

CPU = torch.device("cpu")


def enhancer() -> Enhancer:
    found = load_enhancer("tiny", enhancer_files(tiny_enhancer()), CPU)
    assert found is not None
    return found


def test_what_is_known_of_a_picture_is_used() -> None:
    small = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    layout = torch.zeros(1, 64, 64, dtype=torch.int64)
    layout[:, 20:40, 20:40] = 1
    lines = torch.ones(1, 1, 64, 64)
    lines[:, :, 30] = -1
    alone = enhancer().enlarge(small)
    assert alone.shape == (1, 3, 64, 64)
    assert alone.dtype == torch.uint8
    assert not torch.equal(alone, enhancer().enlarge(small, layout=layout))
    assert not torch.equal(alone, enhancer().enlarge(small, lines=lines))


def test_a_picture_has_the_same_bytes_whatever_its_mates() -> None:
    small = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = enhancer().enlarge(small)
    for row in range(3):
        assert torch.equal(enhancer().enlarge(small[row : row + 1])[0], together[row])


def test_a_model_that_draws_is_no_enhancer() -> None:
    tiny = tiny_model()
    source = ModelFiles(name=tiny.name, version=tiny.version, files=tiny.files)
    with pytest.raises(ModelError, match="is of the family dcgan, which does not enlarge pictures"):
        enhancer_files(source)


@pytest.mark.parametrize("config", [b"[]", b'{"family": "enhancer"}', b'{"family": "none", "network": {}}'])
def test_a_damaged_config_is_named(config: bytes) -> None:
    with pytest.raises(ModelError, match=r"enhancer\.json of the model tiny-enhancer"):
        enhancer_files(tiny_enhancer(config_json=config))


@pytest.mark.parametrize("weights", [b"", save({"head.weight": torch.zeros(1)})])
def test_damaged_weights_are_named(weights: bytes) -> None:
    with pytest.raises(ModelError, match=r"enhancer\.safetensors of the model tiny-enhancer"):
        enhancer_files(tiny_enhancer(generator_safetensors=weights))


def enhanced(family: str) -> Model:
    """A tiny model with the enhancer beside it."""
    tiny = tiny_model(family)
    return TinyFiles(name=tiny.name, files={**tiny.files, **enhancer_files(tiny_enhancer())}).load()


@pytest.mark.parametrize("family", ["dcgan", "spade", "pix2pix"])
def test_a_model_with_an_enhancer_draws_what_that_makes(family: str) -> None:
    """What its networks draw is what they draw without one, from the drawing made small."""
    model, plain = enhanced(family), tiny_model(family).load()
    assert (model.resolution, model.generated_resolution) == (64, 32)
    kind = model.image_condition
    image = None if kind is None else READERS[kind](condition_file(kind, 0), 64)
    product = ProductConditions(category="brick", colour_hex="#B40000", image=image)
    alone = model.generate([7], [product], 4)
    assert alone.pixels.shape == (1, 64, 64, 3)
    assert alone.finite.all()
    together = model.generate([7, 8], [product, product], 4)
    assert np.array_equal(alone.pixels[0], together.pixels[0])
    assert np.array_equal(alone.logits[0], together.logits[0])
    if kind is None:
        small = torch.from_numpy(plain.generate([7], [product], 4).pixels).permute(0, 3, 1, 2)
        large = enhancer().enlarge(small).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(alone.pixels, large)


def test_an_enhancer_for_other_pixels_is_refused() -> None:
    tiny = tiny_model()
    half = NETWORK | {"resolution": 32, "small_resolution": 16}
    config = config_json("enhancer", half, ["any"])
    model = TinyFiles(name="tiny", files={**tiny.files, **enhancer_files(tiny_enhancer(config_json=config))})
    for use in (TinyFiles.load, read_scope):  # a run is refused before it starts
        with pytest.raises(
            ModelError, match="generates pictures of 32 pixels, but its enhancer takes pictures of 16"
        ):
            use(model)


def test_a_slanted_border_is_enlarged_without_steps() -> None:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    layout = torch.where(columns > rows, 7, 3)[None]
    large = resize_drawings({"layout": layout}, 64)["layout"]
    assert large.unique().tolist() == [3, 7]
    widths = (large[0, 8:56] == 3).sum(1)  # of each row, away from the ends of the border
    assert (widths.diff() >= 0).all()
    assert widths.diff().max() <= 2  # repeated pixels would jump by 4


def test_drawings_are_resized_as_they_are_read() -> None:
    for kind in ("layout", "sketch"):
        large, small = (READERS[kind](condition_file(kind, 3, side=64), side) for side in (64, 32))
        found = resize_drawings({kind: encode_images(kind, [large])}, 32)[kind]
        wanted = encode_images(kind, [small])
        assert (found - wanted).abs().max() <= (0 if kind == "layout" else 0.01)


@pytest.mark.parametrize("gone", ["enhancer.json", "enhancer.safetensors"])
def test_half_an_enhancer_is_refused(gone: str) -> None:
    whole = {**tiny_model().files, **enhancer_files(tiny_enhancer())}
    with pytest.raises(ModelError, match=f"{gone} of the model tiny is missing"):
        TinyFiles(name="tiny", files={name: data for name, data in whole.items() if name != gone}).load()
