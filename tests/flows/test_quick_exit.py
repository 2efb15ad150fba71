"""How the program `toygan` ends."""

import subprocess
import sys

import pytest

BEGIN = """
import atexit, sys
from flows.exits import quick_exit
class Late:
    def __del__(self):
        print("modules are freed", flush=True)
late = Late()
"""


def ended(block: str) -> subprocess.CompletedProcess[str]:
    program = f"{BEGIN}\nwith quick_exit():\n    {block}\n"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("block", "code", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit('stopped')", 1, "stopped\n"),
    ],
)
def test_a_process_keeps_its_exit_code_and_frees_no_module(block: str, code: int, error: str) -> None:
    process = ended(block)
    assert (process.returncode, process.stderr, process.stdout) == (code, error, "")


def test_handlers_and_output_come_before_the_end() -> None:
    process = ended("print('done', end=''); atexit.register(print, ', and closed', end='')")
    assert (process.returncode, process.stdout) == (0, "done, and closed")


def test_an_error_ends_the_process_as_usual() -> None:
    process = ended("1 / 0")
    assert process.returncode == 1
    assert "ZeroDivisionError" in process.stderr
    assert process.stdout == "modules are freed\n"


def test_output_that_nobody_reads_ends_the_process_as_usual() -> None:
    program = f"{BEGIN}\nwith quick_exit():\n    print('x' * 100000)\n"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "BrokenPipeError" in process.stderr.read()
        assert process.wait(60) != 0


def test_the_module_as_a_program_frees_no_module_either() -> None:
    """While they were freed, a thread of a library once aborted a command that had done its work."""
    call = "import runpy; sys.argv = ['toygan', '--help']; runpy.run_module('flows.cli', run_name='__main__')"
    program = f"{BEGIN}\n{call}\n"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert "generate" in process.stdout
    assert "modules are freed" not in process.stdout
