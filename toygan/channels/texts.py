"""Texts that describe a picture to people who do not see it."""

from typing import Final

# The comma before the colour, for languages with their own comma.
_COMMAS: Final = {"zh": "，", "ja": "、", "ar": "، "}
_FORMULA: Final = "=+-@"  # a spreadsheet takes a cell that begins with one of these for a formula


def alt_text(title: str | None, colour: str | None, language: str | None, letters: int) -> str:
    """Returns title and colour in the row's language, on one line of at most `letters` characters.

    The colour is left out if the title has it. Without a title the text is empty. The text never begins with
    a character that makes a spreadsheet take it for a formula.
    """
    text = one_line(title or "").lstrip(_FORMULA + " ")
    name = one_line(colour or "")
    if not text:
        return ""
    if name and name.casefold() not in text.casefold():
        text += _COMMAS.get((language or "").split("-")[0].lower(), ", ") + name
    if len(text) <= letters:
        return text
    cut = text[: letters - 1].rstrip()
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) > letters // 2 else cut) + "…"


def one_line(text: str) -> str:
    """Replaces control characters and runs of white space by single spaces."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
