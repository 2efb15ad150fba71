"""How long a person waits: for `toygan --help`, and for the first picture of `toygan demo`."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELP_RUNS = 7
LIMIT_S = 600


def measure() -> dict[str, float]:
    """Seconds: the median `--help`; from the start of `toygan demo` to its first picture and to its end."""
    toygan = str(Path(sys.executable).with_name("toygan"))
    helps = []
    for _ in range(HELP_RUNS):
        began_s = time.monotonic()
        subprocess.run([toygan, "--help"], check=True, capture_output=True)
        helps.append(time.monotonic() - began_s)
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        began_s = time.monotonic()
        demo = subprocess.Popen([toygan, "demo", "--output", f"{folder}/demo"])
        first_s = None
        while demo.poll() is None and time.monotonic() - began_s < LIMIT_S:
            if first_s is None and any(Path(folder).glob("demo/images/*/*/*")):
                first_s = time.monotonic() - began_s
            time.sleep(0.05)
        if demo.wait(timeout=1) or first_s is None:
            raise RuntimeError("toygan demo made no picture")
        return {
            "help_s": statistics.median(helps),
            "first_picture_s": first_s,
            "demo_s": time.monotonic() - began_s,
        }


def main() -> None:
    figures = measure()
    print(f"toygan --help, median of {HELP_RUNS} (under 0.5 s): {figures['help_s']:.2f} s")
    print(f"toygan demo, first picture (under 60 s): {figures['first_picture_s']:.1f} s")
    print(f"toygan demo, 200 products: {figures['demo_s']:.1f} s")


if __name__ == "__main__":
    main()
