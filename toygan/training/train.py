"""`toygan train`: reads photos, trains a model and writes its folder, with checkpoints, grids and a log."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from toygan.artifact.files import ModelFiles
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.conditions.colour_names import NO_COLOUR_NAMES
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_config import TextConfig
from toygan.data.photo import WantedConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.data.split import is_calibration_sku
from toygan.errors import BadInput
from toygan.progress import Progress
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.checks import check_first_stages, check_photos, check_share
from toygan.training.config import TrainConfig
from toygan.training.distributed import Distributed, join_distributed
from toygan.training.first_stage import load_pairs
from toygan.training.fit import Callbacks, fit
from toygan.training.folder import Collapse, TrainingFolder
from toygan.training.initial import InitialModel, read_initial
from toygan.training.layout_bank import make_layout_bank
from toygan.training.limits import Limits
from toygan.training.precision import with_precision
from toygan.training.state import TrainState, start
from toygan.training.studio_light import shown_colours
from toygan.training.tracking import started_tracker

SMALL_PICTURES = "small_pictures.safetensors"  # the file of small pictures in a training's folder

log = logging.getLogger(__name__)


def train(
    *,
    photos_uri: str | Path,
    output: Path,
    config: TrainConfig,
    device: torch.device,
    limits: Limits,
    resume: bool = False,
    init: ModelFiles | None = None,
    first_stages: Sequence[ModelFiles] = (),
) -> Path:
    """Trains one model and returns its folder, `output`/model. The final weights are always written.

    - `photos_uri`: see `toygan.data.sources`. The photos of the split `train` are used, except those of
      calibration products.
    - `config`: must be a config that `toygan.training.checks.check_config` accepts.
    - `resume`: continues from the newest checkpoint in `output`, if there is one. Without `resume` an
      `output` with a checkpoint is refused, so that nobody overwrites hours of work by accident.
    - `init`: the model from whose weights the training starts, see `toygan.training.initial`. A resumed
      training needs the same `init`.
    - `first_stages`: for an enhancer, the models whose small pictures it learns to enlarge, see
      `toygan.training.pairs`. Without first stages it learns from downscaled photos only.

    A training that diverges or collapses (`toygan.training.guard`) goes back to its newest checkpoint, or to
    the start, and continues at lower learning rates; the log says so. Under `accelerate launch` or
    `torchrun` all processes train together, each on its share of a batch (`toygan.training.distributed`).

    Raises BadInput for unusable photos or options. Raises ModelError for a checkpoint that cannot be resumed,
    and for an `init` that does not fit. Raises RunFailed if the training fails again after all rollbacks.
    """
    check_first_stages(config, first_stages)
    with join_distributed(device) as distributed:
        check_share(config, distributed)
        earlier = checkpoint_folders(output)
        if earlier and not resume:
            raise BadInput(
                f"{output} holds a training already; give --resume to continue it, or give another folder"
            )
        device, newest = distributed.device or device, earlier[-1] if earlier else None
        config = with_precision(config, device, checkpoint=newest, distributed=distributed)
        training = _prepare(
            photos_uri, config, init, first_stages, output=output, device=device, distributed=distributed
        )
        return _run(training, output, newest, limits)


@dataclass(frozen=True, kw_only=True)
class _Training:
    """The inputs of a training.

    They are kept in memory, so that a training without a checkpoint can begin again.
    """

    config: TrainConfig
    photos: PhotoSet
    encoder: TextEncoder | None
    known: TextBank | None
    layout_bank: LayoutBank | None
    initial: InitialModel | None
    first_stages: tuple[str, ...]
    device: torch.device
    distributed: Distributed

    def begin(self) -> TrainState:
        state = start(
            self.config,
            categories=len(self.photos.categories),
            device=self.device,
            texts=self.photos.text,
            labelled=self.photos.labelled_colours,
            with_layout_predictor=self.config.conditions.layout_bank > 0 and self.layout_predictor is None,
            shown=shown_colours(self.photos),
            distributed=self.distributed,
        )
        if self.initial is not None:
            texts = None if self.encoder is None else self.encoder.to_json()
            self.initial.load_pretrained(state.networks, self.photos.categories, texts)
            if state.mask_network is not None and self.initial.mask_network is not None:
                state.mask_network.load_state_dict(self.initial.mask_network.state_dict())
        return state

    @property
    def layout_predictor(self) -> LayoutPredictor | None:
        """The layout predictor of the initial model. It predicts the layouts of photos that have none."""
        return None if self.initial is None else self.initial.layout_predictor

    def folder(self, output: Path) -> TrainingFolder:
        return TrainingFolder(
            output=output,
            config=self.config,
            photos=self.photos,
            encoder=self.encoder,
            known=self.known,
            layout_bank=self.layout_bank,
            layout_predictor=self.layout_predictor,
            device=self.device,
            init=None if self.initial is None else self.initial.name,
            first_stages=self.first_stages,
        )


def _prepare(
    photos_uri: str | Path,
    config: TrainConfig,
    init: ModelFiles | None,
    first_stages: Sequence[ModelFiles],
    *,
    output: Path,
    device: torch.device,
    distributed: Distributed,
) -> _Training:
    """Reads the inputs of a training: the initial model, then the photos."""
    initial = None if init is None else read_initial(init, config)
    name = config.conditions.text_encoder
    encoder = None if name is None else TextEncoder(name, device)
    if config.networks().needs_small_picture:
        photos = _read_pairs(photos_uri, config, first_stages, output / SMALL_PICTURES, device)
    else:
        photos = _read_photos(photos_uri, config, initial).with_text(encoder)
    check_photos(config, photos)
    if initial is not None:
        log.info("starting from the weights of the model %s", initial.name)
    return _Training(
        config=config,
        photos=photos,
        encoder=encoder,
        known=_text_bank(photos, config, initial, encoder),
        layout_bank=_layout_bank(photos, config, initial, encoder),
        initial=initial,
        first_stages=tuple(f"{each.name}@{each.version}" for each in first_stages),
        device=device,
        distributed=distributed,
    )


def _run(training: _Training, output: Path, earlier: Path | None, limits: Limits) -> Path:
    """Trains to the end, from the checkpoint `earlier` or from the beginning."""
    distributed, state, folder = training.distributed, training.begin(), training.folder(output)
    if earlier is not None:
        folder.load(earlier, state)
        log.info("resumed the training after %d images", state.images_seen)
    distributed.wait()
    folder.cut_log(state)
    with (
        started_tracker(output, folder.options, is_main=distributed.is_main) as tracker,
        Progress(
            total=limits.max_images,
            unit="images",
            description="training",
            done=state.images_seen,
            stream=None if distributed.is_main else io.StringIO(),
        ) as progress,
    ):
        folder = replace(folder, tracker=tracker)
        while True:
            try:
                _fit(training, state, folder, progress, limits)
                folder.save_last(state)
                break
            except Collapse as collapse:
                state = folder.roll_back(state, training.begin, str(collapse))
                progress.restart(state.images_seen)
    return folder.model


def _read_photos(uri: str | Path, config: TrainConfig, initial: InitialModel | None) -> PhotoSet:
    """Reads the photos of the split `train`, except those of calibration products."""
    known = NO_COLOUR_NAMES if initial is None else initial.text_config.colour_names
    networks = config.networks()
    needs_both = networks.predicts_layouts  # a photo needs a layout beside its sketch, to learn from
    photos = load_photos(
        uri,
        resolution=config.resolution,
        split="train",
        keep_sku=lambda sku: not is_calibration_sku(sku),
        drawings=WantedConditions(
            kind="layout" if needs_both else networks.image_condition,
            lines=needs_both or networks.lines,
            needs_lines=needs_both,
            as_files=config.conditions.layout_bank > 0,
            predictor=None if initial is None else initial.drawing_predictor,
            may_lack=networks.image_condition == "photo",
            finder=None if initial is None else initial.product_finder,
        ),
        text_config=TextConfig(accent_colours=config.conditions.accent_colours, colour_names=known),
        learns_colour_names=True,
    )
    products, categories = len(set(photos.skus)), len(photos.categories)
    log.info("%d photos of %d products in %d categories", len(photos), products, categories)
    return photos if initial is None else replace(photos, earlier_labels=initial.labelled_colours)


def _read_pairs(
    uri: str | Path,
    config: TrainConfig,
    first_stages: Sequence[ModelFiles],
    kept: Path,
    device: torch.device,
) -> PhotoSet:
    return load_pairs(
        uri,
        config.networks(),
        first_stages,
        keep_sku=lambda sku: not is_calibration_sku(sku),
        seed=config.data.seed,
        device=device,
        kept=kept,
    )


def _text_bank(
    photos: PhotoSet, config: TrainConfig, initial: InitialModel | None, encoder: TextEncoder | None
) -> TextBank | None:
    """Makes the text bank from the texts of the photos and of the initial model.

    Returns None if the settings ask for no text bank.
    """
    if photos.text is None or encoder is None or not config.conditions.text_smoothing:
        return None
    texts = [photos.text]
    if (
        initial is not None
        and initial.known is not None
        and initial.has_same_text_as(photos.text_config, encoder)
    ):
        texts.append(initial.known.embeddings)
    return TextBank.of(torch.cat(texts), config.conditions.text_smoothing)


def _layout_bank(
    photos: PhotoSet, config: TrainConfig, initial: InitialModel | None, encoder: TextEncoder | None
) -> LayoutBank | None:
    """Makes the layout bank from the layouts of the photos and of the initial model.

    Returns None if the settings ask for no layout bank.
    """
    if not config.conditions.layout_bank:
        return None
    earlier = (
        initial.layout_bank if initial and initial.has_same_text_as(photos.text_config, encoder) else None
    )
    return make_layout_bank(
        photos,
        embed=None if encoder is None else encoder.embed,
        classes=config.networks().layout_classes,
        temperature=config.conditions.layout_bank,
        earlier=earlier,
    )


def _fit(
    training: _Training, state: TrainState, folder: TrainingFolder, progress: Progress, limits: Limits
) -> None:
    fit(
        state,
        training.photos,
        training.config,
        Callbacks(
            should_stop=lambda: limits.are_reached(state.images_seen, progress.elapsed_s),
            on_step=lambda: progress.advance(training.config.data.batch_size),
            on_report=lambda losses: folder.report(state, losses, progress),
            on_checkpoint=lambda: folder.save(state),
        ),
        device=training.device,
        known=training.known,
    )
