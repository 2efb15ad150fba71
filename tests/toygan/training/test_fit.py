from collections import Counter
from dataclasses import replace
from itertools import count, islice

import pytest
import torch
from torch import Tensor, nn

from tests.toygan.training.tiny import changed, tiny
from toygan.conditions.colour import encode_colours
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_config import TextConfig, TextFields
from toygan.data.photos import PhotoSet
from toygan.images import from_uint8
from toygan.training import batches
from toygan.training.batches import epoch_rows, mirror, sample_batch, step_rng
from toygan.training.config import TrainConfig
from toygan.training.fit import Callbacks, Losses, _ahead, fit
from toygan.training.state import TrainState, start
from toygan.training.step import train_step

CPU = torch.device("cpu")


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def step(
    photos: PhotoSet, config: TrainConfig, *, rows: int = 4, state: TrainState | None = None
) -> TrainState:
    state = state or start(config, categories=2, device=CPU)
    first_step(state, photos, config, rows)
    return state


def first_step(state: TrainState, photos: PhotoSet, config: TrainConfig, rows: int = 4) -> Tensor:
    rng = step_rng(0, 0)
    batch = sample_batch(photos, torch.arange(rows), config, state.generator.latent_size, rng)
    return train_step(state, batch, config, rng)


def test_the_start_is_a_function_of_the_seed() -> None:
    first = start(tiny(), categories=2, device=CPU)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again, other = (start(tiny(seed=seed), categories=2, device=CPU) for seed in (0, 1))
    assert torch.equal(before, torch.get_rng_state())
    for name, module in first.modules.items():
        assert same(module, again.modules[name])
        assert not same(module, other.modules[name])
    assert same(first.generator, first.ema)
    assert not first.ema.training
    assert not any(parameter.requires_grad for parameter in first.ema.parameters())


def test_convolutions_are_channels_last() -> None:
    state = start(tiny(), categories=2, device=CPU)
    kernels = [each for module in state.modules.values() for each in module.parameters() if each.ndim == 4]
    assert kernels
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in kernels)


def test_every_photo_comes_once_an_epoch() -> None:
    config = tiny(batch_size=4)
    seen = torch.cat([epoch_rows(10, config, images) for images in range(0, 40, 4)]).tolist()
    epochs = [seen[first : first + 10] for first in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert torch.equal(epoch_rows(10, config, 12), epoch_rows(10, config, 12))
    assert not torch.equal(epoch_rows(10, config, 0), epoch_rows(10, tiny(batch_size=4, seed=1), 0))


def test_fewer_photos_than_a_batch() -> None:
    rows = epoch_rows(3, tiny(batch_size=8), 0)
    assert rows.shape == (8,)
    assert sorted(Counter(rows.tolist()).values()) == [2, 3, 3]


def test_about_half_of_the_pictures_are_mirrored(photos: PhotoSet) -> None:
    batch = sample_batch(photos, torch.zeros(400, dtype=torch.int64), tiny(), 8, step_rng(0, 0))
    image = from_uint8(photos.images[:1])
    kept = (batch.real == image).all(dim=(1, 2, 3))
    mirrored = (batch.real == image.flip(3)).all(dim=(1, 2, 3))
    assert torch.equal(kept, ~mirrored)
    assert abs(kept.sum().item() - 200) < 40  # four standard deviations


def test_blended_texts_are_means_of_a_random_half_of_the_known(
    photos: PhotoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two known texts far apart: a photo's own is read where it is kept, or none is, in three of four."""
    texts = torch.zeros(len(photos), 2)
    texts[::2, 0], texts[1::2, 1] = 1.0, 1.0
    known = TextBank.of(texts, 1e-3)
    monkeypatch.setattr(batches, "TEXT_DROPOUT", 0.25)
    config = tiny(text_encoder="any", text_smoothing=1e-3)
    rows = torch.zeros(400, dtype=torch.int64)
    batch = sample_batch(replace(photos, text=texts), rows, config, 8, step_rng(0, 0), known=known)
    assert batch.blended_text is not None
    own, other, withheld = (
        (batch.blended_text == torch.tensor(each)).all(1) for each in ([1, 0], [0, 1], [0, 0])
    )
    assert (own | other | withheld).all()
    assert torch.equal(withheld, ~batch.conditions["text"].any(1))
    assert abs(own.sum() - 225) < 40  # four standard deviations
    assert abs(other.sum() - 75) < 31
    assert sample_batch(photos, rows, config, 8, step_rng(0, 0)).blended_text is None


def test_products_of_one_colour_are_shown_and_named_in_another(photos: PhotoSet) -> None:
    rows = torch.tensor([0, 1] * 100)
    images = torch.full_like(photos.images, 255)
    images[0, :, 8:16, 8:16] = torch.tensor([200, 100, 0], dtype=torch.uint8)[:, None, None]
    images[1, :, 8:16, 8:16] = 90
    hexes = ("#C86400", "#5A5A5A", *photos.colour_hexes[2:])
    painted = replace(photos, images=images, colour_hexes=hexes, colour=encode_colours(hexes))
    config = tiny(colour_mixing=0.5, colour_dropout=0.0)
    batch = sample_batch(painted, rows, config, 8, step_rng(0, 0))
    shown = batch.real.amin(dim=(2, 3)).add(1).mul(127.5).round().int().tolist()
    named = ["#" + bytes(rgb).hex().upper() for rgb in shown]
    torch.testing.assert_close(batch.conditions["colour"], encode_colours(named))
    counts = Counter(named)
    assert counts["#5A5A5A"] == 100
    assert abs(counts["#C86400"] - 52) < 20  # half stay, and of the others one of 27
    assert len(counts) > 15
    plain = sample_batch(painted, rows, changed(config, colour_mixing=0.0), 8, step_rng(0, 0))
    torch.testing.assert_close(plain.conditions["colour"], painted.colour[rows])


def test_accent_colours_change_and_are_withheld_with_the_main_one(photos: PhotoSet) -> None:
    """A product of one colour whose accent is a darker one of the same hue, and one with a blue lid."""
    rows = torch.tensor([0, 1] * 100)
    images = torch.full_like(photos.images, 255)
    images[:2, :, 8:16, 8:16] = torch.tensor([200, 100, 0], dtype=torch.uint8)[:, None, None]
    images[0, :, 16:24, 8:16] = torch.tensor([100, 50, 0], dtype=torch.uint8)[:, None, None]
    images[1, :, 16:24, 8:16] = torch.tensor([0, 0, 200], dtype=torch.uint8)[:, None, None]
    hexes = ("#C86400",) * len(photos)
    words = (TextFields(accent_hexes=("#643200",)), TextFields(accent_hexes=("#0000C8",)))
    painted = replace(
        photos,
        images=images,
        colour_hexes=hexes,
        colour=encode_colours(hexes),
        words=(*words, *(TextFields(),) * (len(photos) - 2)),
        text_config=TextConfig(accent_colours=2),
    )
    config = tiny(colour_mixing=1.0, colour_dropout=0.5)
    batch = sample_batch(painted, rows, config, 8, step_rng(0, 0))
    pixels = batch.real.add(1).mul(127.5).round().int().amin(dim=3)  # of each row of pixels
    shown = [["#" + bytes(rgb).hex().upper() for rgb in pixels[:, :, row].tolist()] for row in (12, 20)]
    named, accents = batch.conditions["colour"], batch.conditions["accents"]
    is_named = named[:, 3] > 0
    assert 60 < int(is_named.sum()) < 140
    assert not accents[~is_named].any()
    torch.testing.assert_close(named[is_named], encode_colours(shown[0])[is_named])
    torch.testing.assert_close(accents[is_named, :4], encode_colours(shown[1])[is_named])
    assert not accents[:, 4:].any()
    assert len(set(shown[1][::2])) > 10
    assert set(shown[0][1::2]) == {"#C86400"}  # a product of two colours stays


def test_layouts_name_the_colours_that_are_shown(photos: PhotoSet) -> None:
    images = torch.full_like(photos.images, 255)
    layouts = torch.zeros_like(images[:, 0])
    for row, (rgb, label) in enumerate([((200, 0, 0), 5), ((0, 200, 0), 8), ((0, 0, 200), 9)] * 2):
        images[row, :, 8:16, 8:16] = torch.tensor(rgb, dtype=torch.uint8)[:, None, None]
        layouts[row, 8:16, 8:16] = label
    hexes = ("#C80000", "#00C800", "#0000C8") * 2 + photos.colour_hexes[6:]
    painted = replace(
        photos, images=images, colour_hexes=hexes, image_condition="layout", condition_images=layouts
    )
    rows = torch.zeros(100, dtype=torch.int64)
    batch = sample_batch(painted, rows, tiny(colour_mixing=1.0), 8, step_rng(0, 0))
    shown = batch.real.amin(dim=(2, 3))
    pure = (shown > 0).sum(dim=1) == 1
    labels = batch.conditions["layout"].amax(dim=(1, 2))[pure]
    assert torch.equal(labels, torch.tensor([5, 8, 9])[shown[pure].argmax(dim=1)])
    assert Counter(labels.tolist()).keys() == {5, 8, 9}


def test_only_the_marked_ones_are_mirrored() -> None:
    for shape in ((2, 1, 3, 4), (2, 3, 4)):
        images = torch.rand(shape)
        result = mirror(images, torch.tensor([False, True]))
        assert torch.equal(result[0], images[0])
        assert torch.equal(result[1], images[1].flip(-1))


def unmoved(one: nn.Module, other: nn.Module) -> set[str]:
    values = dict(other.named_parameters())
    return {key for key, value in one.named_parameters() if torch.equal(value, values[key])}


def test_a_step_moves_everything(photos: PhotoSet) -> None:
    fresh = start(tiny(), categories=2, device=CPU)
    state = step(photos, tiny())
    assert unmoved(fresh.generator, state.generator) == set()
    # Behind a projection of zeros the discriminator's embedding learns one step later; real and generated
    # pictures pull at the last bias alike as long as all of them lie within the margin.
    late = {"logit.bias", *(key for key, _ in fresh.discriminator.named_parameters() if "embedding." in key)}
    assert unmoved(fresh.discriminator, state.discriminator) == late
    # The first step of the average follows at once: its half-life is one image.
    torch.testing.assert_close(state.ema.state_dict(), state.generator.state_dict(), atol=0.1, rtol=0)
    assert not same(state.ema, fresh.ema)
    step(photos, tiny(), state=state)
    assert unmoved(fresh.discriminator, state.discriminator) <= {"logit.bias"}


def test_both_precisions_learn_the_same_but_for_rounding(photos: PhotoSet) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        config = tiny(precision=precision)
        state = start(config, categories=2, device=CPU)
        losses.append(first_step(state, photos, config))
    assert losses[0].shape == (4,)
    torch.testing.assert_close(*losses, atol=0.02, rtol=0)
    assert not torch.equal(*losses)


def test_a_paired_loss_adapts_the_augmentation_by_differences(photos: PhotoSet) -> None:
    """A number that is added to all logits does not change such a loss, so it may not change r_t either."""
    config = tiny(loss="relativistic", augmentation_ramp_images=64)
    found = []
    for shift in (-4.0, 4.0):
        state = start(config, categories=2, device=CPU)
        nn.init.constant_(state.discriminator.logit.bias, shift)  # type: ignore[union-attr, arg-type]
        first_step(state, photos, config)
        assert state.augmentation is not None
        found.append(state.augmentation.state.tolist())
    assert found[0] == found[1]


def test_a_colour_that_is_always_withheld_has_no_effect(photos: PhotoSet) -> None:
    recoloured = replace(photos, colour=photos.colour.flip(0) * 0.5)
    for dropout, equal in ((1.0, True), (0.0, False)):
        config = tiny(colour_dropout=dropout)
        one, other = step(photos, config), step(recoloured, config)
        assert same(one.discriminator, other.discriminator) == equal


def test_reports_and_checkpoints_come_at_fixed_counts(photos: PhotoSet) -> None:
    config = tiny(batch_size=4, log_every_images=6, checkpoint_every_images=8)
    state = start(config, categories=2, device=CPU)
    state.images_seen = 4
    steps: list[int] = []
    reports: list[tuple[int, Losses]] = []
    checkpoints: list[int] = []
    fit(
        state,
        photos,
        config,
        Callbacks(
            should_stop=lambda: state.images_seen >= 24,
            on_step=lambda: steps.append(state.images_seen),
            on_report=lambda losses: reports.append((state.images_seen, losses)),
            on_checkpoint=lambda: checkpoints.append(state.images_seen),
        ),
        device=CPU,
    )
    assert steps == [8, 12, 16, 20, 24]
    assert [images for images, _ in reports] == [8, 12, 20, 24]  # the first ones at or beyond 6, 12, 18, 24
    assert checkpoints == [8, 16, 24]


def test_batches_made_ahead_are_the_same_in_the_same_order() -> None:
    assert list(islice(_ahead(str, count(4, 3)), 4)) == ["4", "7", "10", "13"]


def test_a_batch_that_cannot_be_made_ahead_fails_its_step() -> None:
    batches = _ahead(lambda number: 1 // (2 - number), count())
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_a_report_is_the_mean_since_the_last(photos: PhotoSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of 1, 2, 3, 4: the reports after two steps each say 1.5 and 3.5."""
    values = iter([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(
        "toygan.training.fit.train_step", lambda *args: torch.tensor([1.0, -1.0, 0.5, 2.0]) * next(values)
    )
    config = tiny(batch_size=4, log_every_images=8)
    state = start(config, categories=2, device=CPU)
    reports: list[Losses] = []
    fit(
        state,
        photos,
        config,
        Callbacks(
            should_stop=lambda: state.images_seen >= 16,
            on_step=lambda: None,
            on_report=reports.append,
            on_checkpoint=lambda: None,
        ),
        device=CPU,
    )
    assert reports == [
        Losses(generator=1.5, discriminator=-1.5, real_logit=0.75, generated_logit=3.0),
        Losses(generator=3.5, discriminator=-3.5, real_logit=1.75, generated_logit=7.0),
    ]
