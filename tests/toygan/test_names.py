"""Numbers of things in messages."""

from toygan.names import counted


def test_one_thing_has_no_plural() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(0, "row") == "0 rows"
    assert counted(1200, "picture") == "1,200 pictures"
