"""The flow `export-channel` goes on after a channel that fails, whatever the failure."""

from pathlib import Path

import pytest

from flows.export_channel import export_channel
from flows.parameters import ExportParameters
from toygan.errors import RunFailed
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.local import LocalStore


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.usefixtures("flows_here")
def test_a_damaged_table_of_the_store_fails_every_channel_by_name(tmp_path: Path) -> None:
    LocalStore(tmp_path).put(CURRENT_KEY, b"no Parquet")
    with pytest.raises(RunFailed, match=r"2 of 2 channels failed.*google.*web"):
        export_channel(ExportParameters(channels=("google", "web"), output=str(tmp_path)))
