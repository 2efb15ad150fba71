"""One label for what the lines of a drawing enclose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from toygan.models.regions import vote_by_region

SIDE, CLASSES = 32, 5
GROUND, RED, BLUE, GREEN, SKIN = range(CLASSES)
# A frame of lines from 4 to 27 with two lines across: three bricks, one above the other.
LINES = (4, 12, 20, 27)
BRICKS = (slice(5, 12), slice(13, 20), slice(21, 27))
INSIDE = slice(5, 27)


def drawing() -> NDArray[np.float32]:
    paper = np.ones((SIDE, SIDE), dtype=np.float32)
    for line in LINES:
        paper[line, 4:28] = 0
    paper[4:28, (4, 27)] = 0
    return paper


def likely(*shares: dict[int, float]) -> NDArray[np.float32]:
    """The same probabilities all over a brick, for each of the three; the rest is ground."""
    probabilities = np.zeros((CLASSES, SIDE, SIDE), dtype=np.float32)
    probabilities[GROUND] = 1
    for rows, of_brick in zip((slice(4, 12), slice(12, 20), slice(20, 28)), shares, strict=True):
        probabilities[:, rows, 4:28] = 0
        for label, share in of_brick.items():
            probabilities[label, rows, 4:28] = share
    return probabilities


def bricks(labels: NDArray[np.int64]) -> list[list[int]]:
    """Which labels each of the three has."""
    return [np.unique(labels[rows, INSIDE]).tolist() for rows in BRICKS]


EVEN = {RED: 0.6, BLUE: 0.4}


def test_a_region_has_the_label_that_is_likeliest_on_its_mean() -> None:
    """Blue patches on every brick, where it is a little likelier; lines belong to what is nearest."""
    probabilities = likely(EVEN, EVEN, {RED: 0.3, BLUE: 0.7})
    for patch in ((slice(6, 9), slice(10, 20)), (12, slice(4, 28))):
        probabilities[(RED, *patch)], probabilities[(BLUE, *patch)] = 0.45, 0.55
    labels = vote_by_region(probabilities, drawing(), [RED, BLUE])
    assert bricks(labels) == [[RED], [RED], [BLUE]]
    assert (labels[12, 5:27] == RED).all()
    assert (labels[:4] == GROUND).all()
    assert (probabilities.argmax(0)[7, 10:20] == BLUE).all()


def test_a_given_colour_is_somewhere() -> None:
    """Blue takes a third of the tower, where it is likeliest; a colour that is not given takes nothing."""
    probabilities = likely({RED: 0.7, BLUE: 0.3}, {RED: 0.6, BLUE: 0.4}, {RED: 0.7, GREEN: 0.3})
    assert bricks(vote_by_region(probabilities, drawing(), [RED, BLUE])) == [[RED], [BLUE], [RED]]
    assert bricks(vote_by_region(probabilities, drawing(), [RED, BLUE, BLUE])) == [[RED], [BLUE], [RED]]
    assert bricks(vote_by_region(probabilities, drawing(), [RED])) == [[RED], [RED], [RED]]
    assert bricks(vote_by_region(probabilities, drawing(), [BLUE, GREEN])) == [[RED], [BLUE], [RED]]


def test_a_given_colour_is_not_forced_on_an_unlikely_region() -> None:
    """A tenth of a brick's worth of blue is expected, all in all."""
    hardly = {RED: 0.97, BLUE: 0.03}
    assert bricks(vote_by_region(likely(hardly, hardly, hardly), drawing(), [RED, BLUE])) == [[RED]] * 3


def test_no_given_colour_drives_out_another() -> None:
    """Green and blue are likeliest on one brick, which green has; blue takes another."""
    probabilities = likely({GREEN: 0.6, BLUE: 0.4}, {RED: 0.7, BLUE: 0.3}, {RED: 0.8, BLUE: 0.2})
    assert bricks(vote_by_region(probabilities, drawing(), [RED, GREEN, BLUE])) == [[GREEN], [BLUE], [RED]]


def test_what_pixels_are_sure_of_stays() -> None:
    """A face under a hat without a line between: one region, two labels."""
    probabilities = likely(EVEN, EVEN, EVEN)
    probabilities[:, 5:8, 5:27] = 0
    probabilities[SKIN, 5:8, 5:27] = 1
    labels = vote_by_region(probabilities, drawing(), [RED])
    assert (labels[5:8, 5:27] == SKIN).all()
    assert (labels[8:12, 5:27] == RED).all()


def test_a_drawing_with_an_open_line_keeps_its_ground() -> None:
    paper = drawing()
    paper[4, 10:14] = 1
    probabilities = likely({RED: 0.6, BLUE: 0.4}, EVEN, EVEN)
    labels = vote_by_region(probabilities, paper, [RED])
    assert (labels[:4] == GROUND).all()
    assert bricks(labels) == [[RED]] * 3


PARTS = ({RED: 0.88, BLUE: 0.12}, {BLUE: 0.7, RED: 0.3}, {GREEN: 0.6, RED: 0.4})


@pytest.mark.parametrize("paper", [0.0, 0.95, 1.0])
def test_without_lines_that_are_seen_each_pixel_speaks_for_itself(paper: float) -> None:
    """As of a large drawing whose thin lines are pale when it is shrunk: nothing encloses anything."""
    probabilities = likely(*PARTS)
    faint = np.where(drawing() > 0, 1, paper).astype(np.float32)
    everywhere = np.full((SIDE, SIDE), paper, dtype=np.float32)
    for each in (everywhere, *([faint] if paper else [])):
        assert (vote_by_region(probabilities, each, [RED, BLUE, GREEN]) == probabilities.argmax(0)).all()


def test_pale_lines_enclose_as_well() -> None:
    """A pixel of 1024 is an eighth of one of 128."""
    pale = np.where(drawing() > 0, 1, 0.87).astype(np.float32)
    probabilities = likely(EVEN, EVEN, EVEN)
    probabilities[RED, 6:9, 10:20], probabilities[BLUE, 6:9, 10:20] = 0.45, 0.55
    assert bricks(vote_by_region(probabilities, pale, [RED])) == [[RED]] * 3


def test_glass_stays_glass_whatever_its_colour() -> None:
    """No label is its colour's; the given reds are hardly likely on it."""
    glass = {GREEN: 0.95, RED: 0.05}
    assert bricks(vote_by_region(likely(glass, glass, glass), drawing(), [RED])) == [[GREEN]] * 3


def test_an_outline_does_not_count_as_a_given_colour() -> None:
    """Likelier there than on any brick, blue still goes to the brick where it is likeliest."""
    probabilities = likely({RED: 0.7, BLUE: 0.3}, {RED: 0.65, BLUE: 0.35}, {RED: 0.7, BLUE: 0.3})
    outline = np.zeros((SIDE, SIDE), dtype=bool)
    outline[4:28, 4:28] = True
    outline[5:27, 5:27] = False
    probabilities[RED, outline], probabilities[BLUE, outline] = 0.4, 0.6
    labels = vote_by_region(probabilities, drawing(), [RED, BLUE])
    assert bricks(labels) == [[RED], [BLUE], [RED]]
    assert (labels[4, 5:27] == RED).all()


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, CLASSES - 1), max_size=4))
def test_the_ground_stays_and_nothing_else_becomes_ground(seed: int, wanted: list[int]) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(CLASSES), (SIDE, SIDE)).transpose(2, 0, 1).astype(np.float32)
    paper = random.choice([0.0, 1.0], (SIDE, SIDE), p=[0.3, 0.7]).astype(np.float32)
    labels = vote_by_region(probabilities, paper, wanted)
    assert ((labels == GROUND) == (probabilities.argmax(0) == GROUND)).all()
    assert set(np.unique(labels)) <= set(range(CLASSES))
