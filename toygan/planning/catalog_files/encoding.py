"""Detects the encoding of a text file."""

import codecs
import re
from pathlib import Path
from typing import Final

_CHUNK: Final = 2**20  # bytes
_SAMPLE: Final = 2**16  # the size of the sample in bytes; it consists of lines with characters beyond ASCII
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS: Final = ["big5", "cp932", "cp949", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254"]
_LATIN: Final = frozenset({"cp1250", "cp1252", "cp1254"})
_FAR: Final = ["cp1251", "cp1253"]
# In Cyrillic and Greek texts, whole words are bytes beyond ASCII. In Latin texts only single letters are.
_FAR_WORDS = re.compile(rb"[\x80-\xff]{3,}")
# Signs other than letters that occur in western texts. Bytes that cp1250 uses for Central European letters
# are left out.
_WESTERN_SIGNS: Final = frozenset(
    bytes((*range(0x80, 0x9B), *range(0xA0, 0xC0), 0xD7)).decode("cp1252", "replace")
) - {"³", "¹", "¯", "¿", "¾", "\ufffd"}
_BROKEN = re.compile("[\udc80-\udcff]")
# The 3,755 everyday characters of GB 2312 and its punctuation, as pairs of bytes.
_EVERYDAY_CHINESE = re.compile(rb"[\xb0-\xd7\xa1-\xa3][\xa1-\xfe]")
# Encodings of 7 bits, which look like ASCII: what begins a text of each, and its name.
_SEVEN_BITS: Final = (
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"),
    (re.compile(rb"\x1b\$(?:[@B]|\(D)|\x1b\([JI]"), "iso2022_jp_ext"),
    (re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e]){1,500}~\}"), "hz"),
)
_LONGEST_MARK: Final = 1024  # bytes
_HANJA = re.compile("[\u4e00-\u9fff\uf900-\ufaff]")


def find_encoding(path: Path) -> str:
    """Returns Python's name for the encoding of a text file.

    A byte order mark decides first. Many zero bytes mean UTF-16. An ASCII file with the escape sequences of
    ISO-2022 or HZ has that encoding. A file with few invalid UTF-8 bytes is UTF-8. If most bytes beyond ASCII
    are everyday Chinese, the file is GB 18030. Otherwise `charset_normalizer` decides.
    """
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    zeros = [head[parity::2].count(0) for parity in (0, 1)]
    if max(zeros) > len(head) // 8:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    if (seven_bits := find_seven_bits(path)) is not None:
        return seven_bits
    sample = _not_utf8(path)
    return "utf-8" if sample is None else _guess(sample)


def find_seven_bits(path: Path) -> str | None:
    """Returns the encoding of 7 bits, other than ASCII, in which the whole file is valid.

    Returns None if there is none.
    """
    found, before = dict[str, None](), b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if not chunk.isascii():
                return None
            text = before + chunk
            found |= dict.fromkeys(name for mark, name in _SEVEN_BITS if mark.search(text))
            before = text[-_LONGEST_MARK:]
    return next((name for name in found if _is_valid(path, name)), None)


def _is_valid(path: Path, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _not_utf8(path: Path) -> bytes | None:
    """Returns lines with bytes beyond ASCII from a file that is not UTF-8. Returns None for a UTF-8 file."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    broken = letters = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            text = decoder.decode(chunk)
            if not text.isascii():
                wrong = len(_BROKEN.findall(text))
                broken += wrong
                letters += sum(not letter.isascii() for letter in text) - wrong
    if 2 * broken <= letters:  # in a text of another encoding, few byte sequences are valid UTF-8
        return None
    sample = bytearray()
    with path.open("rb") as file:
        for line in file:
            if not line.isascii():
                sample += line[: _SAMPLE - len(sample)]
            if len(sample) >= _SAMPLE:
                break
    return bytes(sample)


def _guess(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    if _is_chinese(sample):
        return "gb18030"
    best = from_bytes(sample, cp_isolation=_OTHERS).best()
    found = "cp1252" if best is None else best.encoding
    words = _FAR_WORDS.findall(sample)
    if found in _LATIN and 2 * sum(map(len, words)) > sum(byte >= 0x80 for byte in sample):
        best = from_bytes(sample, cp_isolation=_FAR).best()
        return "cp1251" if best is None else best.encoding
    if found in _LATIN:
        text = sample.decode("cp1252", "replace")
        others = {letter for letter in text if not letter.isascii() and not letter.isalpha()}
        if others <= _WESTERN_SIGNS:
            return "cp1252"
    return found


def _is_chinese(sample: bytes) -> bool:
    high = sum(byte >= 0x80 for byte in sample)
    if 2 * len(_EVERYDAY_CHINESE.findall(sample)) < 0.8 * high:
        return False
    # Korean texts use the same bytes, but few of these are Chinese characters if decoded as cp949.
    korean = sample.decode("cp949", "replace")
    letters = sum(not letter.isascii() for letter in korean)
    return len(_HANJA.findall(korean)) + korean.count("\ufffd") > 0.1 * letters
