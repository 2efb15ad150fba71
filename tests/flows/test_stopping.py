"""What SIGTERM and Ctrl-C do; a training leaves a checkpoint and the weights of the moment."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.local import _stops_at_signals
from flows.stopping import SIGNALS, asked_to_stop
from tests.conftest import REPOSITORY
from tests.flows.command import Command
from tests.shards import eight_rows, write_shard
from toygan.errors import RunFailed
from toygan.training.checkpoint import checkpoint_folders

pytestmark = pytest.mark.service

NETWORK = {"latent_size": 8, "generator_channels": 4, "discriminator_channels": 4, "max_channels": 16}
FAR_AWAY = 10_000_000
WAIT_S = 300


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_next_is_as_ever(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with asked_to_stop() as should_stop:
            assert not should_stop()
            os.kill(os.getpid(), number)
            assert should_stop()
            assert came == []
            os.kill(os.getpid(), number)
            assert came == [number]
        os.kill(os.getpid(), number)
        assert came == [number, number]
    finally:
        signal.signal(number, before)
    assert "stopping cleanly; a second signal stops at once" in capfd.readouterr().err


class InTheMiddleOfAWrite(io.StringIO):
    def write(self, text: str) -> int:
        raise RuntimeError("reentrant call")  # as the interpreter's own stderr does


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_middle_of_a_write_ends_a_run_cleanly(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", InTheMiddleOfAWrite())
    with pytest.raises(RunFailed, match="--run-id r resumes it"), _stops_at_signals("r", is_temporary=False):
        os.kill(os.getpid(), number)


# Tells itself to end while a weak reference's callback runs: what is raised there is lost.
LOSES_THE_FIRST = """
import os, signal, sys, time, weakref
from flows.stopping import ends_at_sigterm

class Thing: ...

def tell(reference):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000): ...

try:
    with ends_at_sigterm():
        OTHER_HANDLER
        thing = Thing()
        reference = weakref.ref(thing, tell)
        del thing
        print("still here", flush=True)
        time.sleep(120)
finally:
    print(signal.getitimer(signal.ITIMER_REAL)[0])
"""


@pytest.mark.parametrize("other", ["", "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))"])
def test_sigterm_ends_a_start_even_where_what_it_raises_is_lost(other: str) -> None:
    command = [sys.executable, "-c", LOSES_THE_FIRST.replace("OTHER_HANDLER", other)]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=WAIT_S)
    assert ended.returncode == 0
    assert "SystemExit" in ended.stderr
    assert ended.stdout.splitlines() == ["still here", "0.0"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_training_stops_in_good_order_and_goes_on(
    number: signal.Signals, tmp_path: Path, toygan_here: Command
) -> None:
    photos, output = write_shard(tmp_path / "photos", eight_rows()), tmp_path / "training"
    every = {"log_every_images": 4, "checkpoint_every_images": FAR_AWAY}
    options = {"data": {"batch_size": 4}, "network": NETWORK, "logging": every}
    (tmp_path / "config.json").write_text(json.dumps(options))
    arguments = ["train", "--photos", photos, "--resolution", 32, "--output", output, "--device", "cpu"]
    arguments += ["--config", tmp_path / "config.json"]
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments), "--max-images", str(FAR_AWAY)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline_s = time.monotonic() + WAIT_S
        while not (output / "log.jsonl").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    assert err.endswith(
        f"stopped; the weights so far are in {output / 'model'}; continue by the same command with --resume\n"
    )
    (checkpoint,) = checkpoint_folders(output)
    images_seen = int(checkpoint.name)
    assert 0 < images_seen < FAR_AWAY
    assert (
        json.loads((output / "model" / "config.json").read_text())["training"]["images_seen"] == images_seen
    )
    resumed = toygan_here(*map(str, arguments), "--max-images", str(images_seen + 8), "--resume")
    assert resumed.code == 0, resumed.err
    assert [int(each.name) for each in checkpoint_folders(output)] == [images_seen, images_seen + 8]
