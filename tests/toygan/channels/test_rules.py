"""The channels' files."""

from pathlib import Path

import pytest

from toygan.channels.rules import Channel, Frame, channel_names, load_channel
from toygan.errors import BadInput

RULED = {
    *(name for name in Channel.model_fields if name not in ("name", "title", "version", "frames", "rules")),
    *(name for name in Frame.model_fields if name not in ("name", "size")),
    *("size.least", "size.advised"),
}
EBAY = (Path(__file__).parents[3] / "toygan" / "channels" / "ebay.toml").read_text()


@pytest.mark.parametrize("name", channel_names())
def test_every_field_of_a_channel_has_a_rule_with_source_and_date(name: str) -> None:
    channel = load_channel(name)
    assert channel.name == name
    covered = {field for rule in channel.rules for field in rule.of}
    assert covered <= RULED
    written = {field for field in channel.model_fields_set if field in RULED}
    for frame in channel.frames:
        written |= {field for field in frame.model_fields_set if field in RULED} | {
            "size.least",
            "size.advised",
        }
    assert written - covered == set()
    for rule in channel.rules:
        assert rule.source.startswith("https://") or (rule.source == "toygan" and rule.kind == "chosen")
        assert rule.checked <= channel.version


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("least = 500", 'least = "many"', r"frames.0.size.least: Input should be a valid integer"),
        ("least = 500", "least = 5000", r"frames.0.size: Value error, least \(5000\) is more than advised"),
        ("most = 0.92", "most = 0.8", "frames.0.share: Value error, least <= wanted <= most must be true"),
        ('role = "main"', 'roll = "main"', "roll: Extra inputs are not permitted"),
        ('ground = "white"', 'ground = "transparent"', "JPEG has no transparency"),
        (
            "official = true",
            "",
            "rules.0: Value error, `official` must be there",
        ),
        ('name = "ebay"', 'name = "../ebay"', "name: String should match pattern"),
        ('name = "ebay"', "name = ebay", "not TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_field(before: str, after: str, message: str, tmp_path: Path) -> None:
    assert before in EBAY
    file = tmp_path / "mine.toml"
    file.write_text(EBAY.replace(before, after))
    with pytest.raises(BadInput, match=message) as raised:
        load_channel(str(file))
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("title = " + "[" * 100_000)
    with pytest.raises(BadInput, match=r"mine\.toml: not TOML"):
        load_channel(str(file))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.toml cannot be read"):
        load_channel("nowhere.toml")
