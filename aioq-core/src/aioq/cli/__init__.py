"""The ``aioq`` command: a file for each of its commands; mistakes are told in one sentence."""

import os
import sys
import warnings
from collections.abc import Sequence
from traceback import print_exception

import click
from click.shell_completion import shell_complete

from aioq.cli._output import error, let_go_of_stderr, show_warning, stdout_is_closed
from aioq.cli._root import Session, root, sentence
from aioq.errors import AioqError

__all__ = ["main"]

COMPLETE = "_AIOQ_COMPLETE"
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: the words after ``aioq``; None takes those of this process.

    Returns:
        The exit code: 0 done, 1 it could not be done, 2 the command line is wrong, 130 for Ctrl-C.
    """
    if instruction := os.environ.get(COMPLETE):
        return shell_complete(root, {}, "aioq", COMPLETE, instruction)
    warnings.showwarning = show_warning
    session = Session()
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments), session)
    except click.ClickException as exc:
        error(sentence(exc))
        code = exc.exit_code
    except AioqError as exc:
        if session.verbose:
            print_exception(exc)
        error(str(exc))
        code = 1
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        if not stdout_is_closed():
            raise
        return 0
    return code


def _run(words: list[str], session: Session) -> int:
    try:
        with root.make_context("aioq", words, obj=session) as context:
            code = root.invoke(context)
            sys.stdout.flush()
            let_go_of_stderr()
    except click.exceptions.Exit as exc:
        return exc.exit_code
    return code if type(code) is int else 0
