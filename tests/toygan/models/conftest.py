"""The photos of the training's tests, for families that are trained here too."""

from tests.toygan.training.conftest import photos, shards

__all__ = ["photos", "shards"]
