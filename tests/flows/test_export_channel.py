"""The flow `export-channel` goes on after a failure, whatever it is, and fails at its end."""

from pathlib import Path

import pytest

from flows.export_channel import export_channel
from flows.parameters import ExportParameters
from tests.toygan.channels.exports import place_of, shop, table
from tests.toygan.channels.shop import put_shop
from toygan.errors import RunFailed
from toygan.storage.keys import CURRENT_KEY, image_key
from toygan.storage.local import LocalStore


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.usefixtures("flows_here")
def test_a_damaged_table_of_the_store_fails_every_channel_by_name(tmp_path: Path) -> None:
    LocalStore(tmp_path).put(CURRENT_KEY, b"no Parquet")
    with pytest.raises(RunFailed, match=r"2 of 2 channels failed.*google.*web"):
        export_channel(ExportParameters(channels=("google", "web"), output=str(tmp_path)))


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.usefixtures("flows_here")
def test_a_picture_that_the_store_has_lost_fails_the_flow_after_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """xiaohongshu fails, too, because the producer that its label names is not set."""
    monkeypatch.delenv("TOYGAN_AIGC_PRODUCER", raising=False)
    store = LocalStore(tmp_path)
    ids = put_shop(store, shop())
    store.delete(image_key("brick", "C-3", ids[3], "webp"))
    verify = rf"Of the live pictures, 1 are missing or damaged: toygan verify {tmp_path}$"
    for channels, before in (("google", "etsy"), "^"), (("google", "xiaohongshu"), "^1 of 2 channels.*\n"):
        with pytest.raises(RunFailed, match=before + verify):
            export_channel(ExportParameters(channels=channels, output=store.uri))
    exported = table(place_of(store, "google") / "feeds/pictures.csv")
    assert {row["sku"] for row in exported} == {"A-1", "积木 1"}
