"""Names and numbers in messages, and the forms of a name in Unicode.

The name of a user's file may hold any bytes except a slash and zero.
"""

import unicodedata


def printable(name: str) -> str:
    """Returns one line of text for a name; different names give different lines.

    Characters that cannot be shown and backslashes are escaped. Bytes that are not UTF-8 (surrogates in
    Python) become for example `\\xE9`, other characters `\\n` or `\\u202e`.
    """
    return "".join(letter if letter.isprintable() and letter != "\\" else _escaped(letter) for letter in name)


def counted(number: int, thing: str) -> str:
    """Returns `1 row` or `1,200 rows`, for things whose plural ends with an s."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def composed(name: str) -> str:
    """Returns the NFC form of a name: a letter and its accent are one character, as most programs write them.

    macOS may write them as two in the names of files.
    """
    return unicodedata.normalize("NFC", name)


def spellings(name: str) -> list[str]:
    """Returns the name as it is, and its NFC and NFD forms if they differ. They look the same to a person."""
    return list(dict.fromkeys((name, composed(name), unicodedata.normalize("NFD", name))))


def _escaped(letter: str) -> str:
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02X}"
    if number < 0x80:
        return letter.encode("unicode_escape").decode()
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
