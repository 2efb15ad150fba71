"""The photos and the single thread of the training's tests, for families that are trained here too."""

from tests.toygan.training.conftest import one_thread, photos, shards

__all__ = ["one_thread", "photos", "shards"]
