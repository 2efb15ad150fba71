import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toygan.channels.texts import alt_text, one_line


@pytest.mark.parametrize(
    ("title", "colour", "language", "wanted"),
    [
        ("Fire engine", "red", "en", "Fire engine, red"),
        ("Red fire engine", "red", "en", "Red fire engine"),
        ("Feuerwehr", "rot", "de-CH", "Feuerwehr, rot"),
        ("消防车", "红色", "zh-Hans", "消防车，红色"),
        ("  A\n\tB\x00 ", None, None, "A B"),
        ('=HYPERLINK("x")', None, "en", 'HYPERLINK("x")'),
        (None, "red", "en", ""),
        ("word " * 20, None, "en", ("word " * 7).strip() + "…"),
    ],
)
def test_alt_texts(title: str | None, colour: str | None, language: str | None, wanted: str) -> None:
    assert alt_text(title, colour, language, 40) == wanted


@settings(deadline=None)
@given(st.text(), st.text(), st.integers(40, 200))
def test_an_alt_text_is_one_printable_line_of_bounded_length(title: str, colour: str, letters: int) -> None:
    text = alt_text(title, colour, "en", letters)
    assert len(text) <= letters
    assert text.isprintable()
    assert one_line(text) == text
    assert not text.startswith(("=", "+", "-", "@"))
