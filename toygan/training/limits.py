"""The limits after which a training ends."""

from collections.abc import Callable
from dataclasses import dataclass

from toygan.errors import BadInput

DEFAULT_MAX_IMAGES = 1_000_000  # used if there is no limit in images or minutes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a training. It ends before the step at which it has reached one of them.

    Raises BadInput for a negative limit.
    """

    # largest number of training images, including those before the training was resumed
    max_images: int | None = None
    max_minutes: float | None = None  # longest duration in this process
    should_stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        for name in ("max_images", "max_minutes"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise BadInput(f"{name} is {value}; it must not be below 0")
        if self.max_images is None and self.max_minutes is None:
            object.__setattr__(self, "max_images", DEFAULT_MAX_IMAGES)

    def are_reached(self, images_seen: int, elapsed_s: float) -> bool:
        if self.should_stop():
            return True
        if self.max_images is not None and images_seen >= self.max_images:
            return True
        return self.max_minutes is not None and elapsed_s >= self.max_minutes * 60
