"""Where the database is: URLs and paths, and which file systems cannot hold it."""

import os
import sys
from pathlib import Path
from urllib.parse import quote, unquote

from aioq.errors import ConfigurationError
from aioq.plugins import DEFAULT_NAMESPACE

__all__ = ["check_place", "in_namespace", "parse", "show"]

SCHEME = "sqlite://"
EXAMPLES = "sqlite:///relative.db, sqlite:////absolute/path.db or a plain path"
QUOTED = str.maketrans({mark: quote(mark) for mark in "%?#"})
"""What has a meaning of its own in a URL; the rest of a path is shown as it is."""
NETWORK = {
    "afs",
    "cifs",
    "ceph",
    "fuse.sshfs",
    "glusterfs",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}


def parse(url: "str | os.PathLike[str]") -> Path:
    """The absolute path that a URL or path means.

    Raises:
        ConfigurationError: it names no file.
    """
    text = os.fspath(url)
    if not text.startswith(SCHEME):
        if "://" in text or text.startswith("file:"):
            raise ConfigurationError(f"{text!r} is no SQLite URL; write {EXAMPLES}")
        return _absolute(text, text)
    host, slash, name = text[len(SCHEME) :].partition("/")
    if "?" in name or "#" in name:
        raise ConfigurationError(
            f"{text!r} carries options; pass them to SQLiteBroker(...) as keywords instead"
        )
    if host and host != ":memory:":
        raise ConfigurationError(
            f"{text!r} names the host {host!r}, but SQLite has none; write {EXAMPLES}"
        )
    return _absolute(unquote(name) if slash else host, text)


def _absolute(name: str, text: str) -> Path:
    if name in {"", ":memory:"}:
        raise ConfigurationError(
            f"{text!r} names no file, and jobs in memory would be lost with the process: write "
            f"{EXAMPLES}, or use MemoryBroker where that is wanted"
        )
    if "\0" in name:
        raise ConfigurationError(f"{text!r} is no path: it contains a NUL character")
    return Path(os.path.abspath(name))  # noqa: PTH100 - resolve() would follow a link to the file


def in_namespace(path: Path, namespace: str) -> Path:
    """The file of a namespace: the path itself for the default one, else ``jobs.shop.db``."""
    if namespace == DEFAULT_NAMESPACE:
        return path
    return path.with_name(f"{path.stem}.{namespace}{path.suffix or '.db'}")


def show(path: Path) -> str:
    """The URL of an absolute path."""
    return f"{SCHEME}/{path.as_posix().translate(QUOTED)}"


def check_place(path: Path) -> None:
    """Refuse a place where SQLite cannot work or cannot keep its promises.

    Raises:
        ConfigurationError: the directory is missing, the path is a directory, or it lies on a
            network file system (as far as the system tells).
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} is a directory; name a file in it")
    if not path.parent.is_dir():
        raise ConfigurationError(f"the directory {path.parent} does not exist; create it first")
    kind = _file_system(path.parent)
    if kind in NETWORK:
        raise ConfigurationError(
            f"{path} lies on a network file system ({kind}), where SQLite can lose data; put it on "
            f"a local disk, or use another broker"
        )


def _file_system(folder: Path) -> str | None:
    if sys.platform != "linux":
        return None
    try:
        lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = f"{folder.resolve()}/"
    kind, longest = None, -1
    for fields in map(str.split, lines):
        # The last mount on a point hides those before it.
        point = fields[1].replace("\\040", " ").rstrip("/") + "/"
        if real.startswith(point) and len(point) >= longest:
            kind, longest = fields[2], len(point)
    return kind
