"""Exit codes of the commands: 0 done, 1 failed (a retry may help), 2 bad input (a retry will not)."""

import atexit
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from toygan.disk import FULL
from toygan.errors import BadInput, ToyganError

FAILED, BAD_INPUT = 1, 2


@contextmanager
def one_line() -> Iterator[None]:
    """Prints an error that a user can correct in one line, and ends the process with the exit code of the
    error.
    """
    try:
        yield
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("stopped; run the same command again to resume")
    except (BadInput, _table_error()) as error:
        click.echo(f"toygan: {error}", err=True)
        sys.exit(BAD_INPUT)
    except ToyganError as error:
        click.echo(f"toygan: {error}", err=True)
        sys.exit(FAILED)
    except OSError as error:
        if (remedy := _remedy(error)) is None:
            raise
        click.echo(f"toygan: {error.filename or 'a file'}: {remedy}", err=True)
        sys.exit(FAILED)


@contextmanager
def quick_exit() -> Iterator[None]:
    """Ends the process right after its exit handlers, if the block ends or calls sys.exit.

    Python would free every module before, those of torch among them, which takes up to 0.7 s.
    """
    codes: list[int] = []

    def end() -> None:
        if codes:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(codes[0])

    atexit.register(end)  # the handler that is registered first is called last
    try:
        yield
    except SystemExit as error:
        # sys.exit prints anything that is no number, and then the exit code is 1
        codes.append(error.code if isinstance(error.code, int) else 0 if error.code is None else FAILED)
        raise
    codes.append(0)


def _remedy(error: OSError) -> str | None:
    """Describes an error of the machine and its remedy; None for an error that is a fault of toygan."""
    if error.errno in FULL:
        return (
            f"the disk is full ({error.strerror}); finished work is kept. Make room and run the same command "
            "again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.strerror}; change its permissions, or set HOME and TMPDIR to folders that can be written"
        )
    if "temporary directory" in str(error.strerror):  # of Python's tempfile
        return f"{error.strerror}; set TMPDIR to a folder that can be written"
    return None


def _table_error() -> type[Exception]:
    """Imports TableError only after a failure: a command may have to set up pyarrow before its import."""
    from catalog_schemas.validation import TableError

    return TableError
