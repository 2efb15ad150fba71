import io

import pytest

from toygan.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_every_five_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(total=200, unit="images", description="generating", stream=stream, clock=clock) as progress:
        for _ in range(12):
            clock.now_s += 1
            progress.advance(10)
        assert stream.getvalue().splitlines() == [
            "generating: 50 of 200 images (25%), 10.0 images/s, 5 s",
            "generating: 100 of 200 images (50%), 10.0 images/s, 10 s",
        ]
    assert stream.getvalue().splitlines()[2:] == ["generating: 120 of 200 images (60%), 10.0 images/s, 12 s"]


def test_the_last_line_comes_once() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(total=10, unit="images", description="generating", stream=stream, clock=clock) as progress:
        clock.now_s += 8
        progress.advance(10)
    assert stream.getvalue().splitlines() == ["generating: 10 of 10 images (100%), 1.2 images/s, 8 s"]


def test_the_rate_leaves_out_what_was_done_before() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(
        total=None, unit="images", description="training", done=1_000, stream=stream, clock=clock
    ) as progress:
        clock.now_s += 4
        progress.advance(500)
        progress.note("loss 0.5")
        assert progress.done == 1_500
        assert progress.elapsed_s == 4
        assert progress.per_s == 125
    assert stream.getvalue() == "training: 1,500 images, 125.0 images/s, 4 s, loss 0.5\n"


def test_nothing_to_do() -> None:
    stream = io.StringIO()
    with Progress(total=0, unit="images", description="generating", stream=stream, clock=Clock()):
        pass
    assert stream.getvalue() == "generating: 0 of 0 images (100%), 0.0 images/s, 0 s\n"


def test_a_failure_still_says_how_far_it_came() -> None:
    stream = io.StringIO()
    progress = Progress(total=2, unit="images", description="generating", stream=stream, clock=Clock())

    def work() -> None:
        with progress:
            progress.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert stream.getvalue().startswith("generating: 1 of 2 images (50%)")


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with Progress(total=4, unit="images", description="training", done=1, stream=stream) as progress:
        progress.advance(2)
        progress.note("loss 0.5")
    shown = stream.getvalue()
    assert shown.startswith("\rtraining:")
    assert "1/4" in shown
    assert "3/4" in shown
    assert "loss 0.5" in shown
