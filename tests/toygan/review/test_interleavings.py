"""Two reviewers, a night and an export at work at once: no decision is lost, in whatever order they work."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toygan.review.interleavings import play
from toygan.storage.memory import MemoryStore


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
@pytest.mark.slow
def test_no_interleaving_loses_a_decision(seed: int) -> None:
    with TemporaryDirectory(prefix="toygan-test-") as folder:
        play(seed, MemoryStore(), Path(folder))
