"""Changes of Python files, as ``watchfiles`` sees them."""

import asyncio
from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path

from aioq.errors import ConfigurationError

__all__ = ["changes", "check_watching"]

MOST_NAMED = 5


def check_watching() -> None:
    """Make sure that files can be watched.

    Raises:
        ConfigurationError: watchfiles is not installed.
    """
    if find_spec("watchfiles") is None:
        raise ConfigurationError("--reload needs watchfiles: pip install watchfiles")


async def changes(folder: Path, stopping: asyncio.Event) -> AsyncGenerator[list[str], None]:
    """The Python files below ``folder`` that have just changed, until ``stopping`` is set.

    Raises:
        ConfigurationError: the system cannot watch them.
    """
    from watchfiles import PythonFilter, awatch

    try:
        async for found in awatch(folder, watch_filter=PythonFilter(), stop_event=stopping):
            files = sorted({path for _, path in found})
            yield [_shown(Path(path), folder) for path in files[:MOST_NAMED]]
    except OSError as exc:
        raise ConfigurationError(
            f"the files in {folder} cannot be watched: {exc}; WATCHFILES_FORCE_POLLING=true in the "
            f"environment looks at each of them instead"
        ) from exc


def _shown(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)
