"""Small models for tests."""

import pytest

from tests.models import (
    tiny_model,
)
from toygan.artifact.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model().load()
