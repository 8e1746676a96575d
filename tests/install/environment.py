"""A Python environment that begins empty, and what is in it after some commands."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["Environment"]

ROOT = Path(__file__).parents[2]


class Environment:
    """A virtual environment without pip: the one of these tests installs into it.

    `pip install aioq-redis` finds the wheels that were built here, and nothing of an index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (self.site,) = folder.glob("lib/python3*/site-packages")
        self.added: dict[str, str] = {}
        """Variables that a test sets besides."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a shell in which it is active."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIOQ_", "COV_", "PIP_", "PYTEST_", "PYTHON", "VIRTUAL_ENV"))
        }
        return {
            **inherited,
            "PATH": os.pathsep.join(
                [str(self.python.parent), str(Path(sys.executable).parent), inherited["PATH"]]
            ),
            "VIRTUAL_ENV": str(self.folder),
            "PIP_PYTHON": str(self.python),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": f"{ROOT / 'dist'} {os.environ['AIOQ_WHEELHOUSE']}",
            "PIP_QUIET": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            **self.added,
        }

    def run(self, command: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a line of shell in it; what it writes, both ways, is its `stdout`."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder or self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=900,
        )

    def installed(self) -> set[str]:
        """Names of the distributions in it."""
        found = (path.name.partition("-")[0] for path in self.site.glob("*.dist-info"))
        return {name.replace("_", "-").lower() for name in found}

    def size(self) -> float:
        """Of all files in it, in MB, without what Python compiles."""
        files = (path for path in self.site.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files if path.suffix != ".pyc") / 1e6
