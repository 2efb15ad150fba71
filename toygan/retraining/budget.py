"""Plans the parts of a retraining so that it fits its time limit."""

import math
from dataclasses import dataclass
from typing import Final

from toygan.calibration.calibrate import CalibrationSamples
from toygan.errors import BadInput
from toygan.retraining.snapshot import ROLES, Contents

# the time for calibration and evaluation; at most a third of the time limit is used for them
MEASURING_MINUTES: Final = 20.0
# In every category, the share of pictures that a threshold accepts should have at most this standard error.
# The standard error of a share of n pictures is at most 0.5 / sqrt(n).
SHARE_ERROR: Final = 0.05
PROFILED: Final = 64
# The variance of KID for n pictures and m photos is about proportional to 1/n + 1/m. With three times as many
# pictures as photos the error is 15 % larger than with infinitely many pictures.
PICTURES_A_PHOTO: Final = 3
FEWEST_PICTURES: Final = 100


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """The seconds that this machine takes for one picture or image."""

    train_s: float  # to train on one image
    generate_s: float  # to generate, score and measure one picture
    look_s: float  # to extract the features of one picture or photo


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The sizes of the parts of a retraining, and estimates of their durations."""

    images: int  # length of the training in images
    generated: int  # the number of pictures of each category for the calibration, see CalibrationSamples
    profiled: int
    pictures: int  # the number of pictures of each model for the evaluation
    training_s: float
    measuring_s: float  # the time of calibration and evaluation together
    training_limit_s: float  # the training ends after this time, even with fewer images

    @property
    def samples(self) -> CalibrationSamples:
        return CalibrationSamples(generated=self.generated, profiled=self.profiled)

    def text(self) -> str:
        """Returns one line for the log, such as: about 4 h 10 min: ..."""
        return (
            f"about {_duration(self.training_s + self.measuring_s)}: {_duration(self.training_s)} of "
            f"training with {self.images:,} images, {_duration(self.measuring_s)} of calibration with "
            f"{self.generated} pictures a category and of evaluation with {self.pictures:,} of each model. "
            f"The standard error of the share that a threshold accepts is "
            f"{50 / math.sqrt(self.generated):.1f} points"
        )


def make_budget(
    speeds: Speeds,
    contents: Contents,
    *,
    batch_size: int,
    max_images: int,
    max_minutes: float,
    pictures: int,
) -> Budget:
    """Returns a budget that fits into `max_minutes`.

    The training has at most `max_images` images. The evaluation has at most `pictures` pictures of each
    model. `contents` describes the snapshot and has every category of the model. Raises BadInput if the time
    is too short to train one batch.
    """
    categories, val = len(contents.by_category), contents.of_role("val")
    photos = sum(contents.of_role(role) for role in ROLES)
    measuring_s = 60 * min(MEASURING_MINUTES, max_minutes / 3)
    # The evaluation of each model, with photos and pictures, gets at most a third of the measuring time.
    fits = int((measuring_s / 3 - photos * speeds.look_s) / (speeds.generate_s + speeds.look_s))
    pictures = min(pictures, max(FEWEST_PICTURES, min(fits, PICTURES_A_PHOTO * val)))
    evaluating_s = 2 * (pictures * (speeds.generate_s + speeds.look_s) + photos * speeds.look_s)
    wanted = math.ceil(0.25 / SHARE_ERROR**2)
    samples = CalibrationSamples(generated=wanted, profiled=PROFILED)
    calibrating_s = categories * samples.per_category * speeds.generate_s
    # If there are too many categories for the time, each category gets fewer pictures. text() says how exact
    # the thresholds are.
    share = min(1.0, max(measuring_s - evaluating_s, measuring_s / 3) / calibrating_s)
    samples = CalibrationSamples(
        generated=max(1, int(share * samples.generated)), profiled=max(1, int(share * samples.profiled))
    )
    measuring_s = categories * samples.per_category * speeds.generate_s + evaluating_s
    left = int((60 * max_minutes - measuring_s) / speeds.train_s)
    images = min(max_images, left)
    if images < min(batch_size, max_images):
        raise BadInput(
            f"max_minutes is {max_minutes:g}; calibration and evaluation take {_duration(measuring_s)} on "
            "this machine, so no time is left for the training; give more minutes"
        )
    return Budget(
        images=images,
        generated=samples.generated,
        profiled=samples.profiled,
        pictures=pictures,
        training_s=images * speeds.train_s,
        measuring_s=measuring_s,
        training_limit_s=60 * max_minutes - measuring_s,
    )


def _duration(duration_s: float) -> str:
    """Returns text such as 4 h 10 min, 12 min, 40 s."""
    if duration_s < 60:
        return f"{max(1, round(duration_s))} s"
    hours, minutes = divmod(round(duration_s / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
