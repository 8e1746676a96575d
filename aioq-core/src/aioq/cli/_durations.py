"""Durations on the command line, and ages for people."""

import re
from typing import Final

import click

__all__ = ["age", "read_duration"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = 36_525 * 86_400


def read_duration(context: click.Context, parameter: click.Parameter, text: str) -> float:
    """The callback of an option: a number and a unit, like ``30d``, as seconds."""
    written = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if written is None:
        raise click.BadParameter(
            f"{text!r} is no duration: write a number and s, m, h, d or w, like 30d",
            context,
            parameter,
        )
    seconds = float(written[1]) * _SECONDS[written[2]]
    if seconds > _LONGEST:
        raise click.BadParameter(f"{text!r} is longer than a century", context, parameter)
    return seconds


def age(seconds: float | None) -> str:
    """A duration in its largest whole unit, like ``3m``; ``-`` for none."""
    if seconds is None:
        return "-"
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit]:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{int(seconds)}s"
