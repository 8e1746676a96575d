"""Doorbells: datagram sockets by which processes wake each other's workers.

The folder ``<db>.bells`` is the list of them. A worker that listens has a socket ``<name>.bell``
there, or, where Unix sockets are missing or the path is too long for one, an empty file
``<name>.<port>.udp`` that tells its port on 127.0.0.1. Beside it lies a file with the queues it
serves, named ``<name>.idle`` while it could take more work and ``<name>.busy`` otherwise. Whoever
brings work renames one such file from idle to busy and rings that worker, so one worker wakes; it
shows its room again when it has looked and found nothing left. It does so under the lock between
processes, so that no commit slips in between.

Nothing here is needed for safety: a bell that is not heard costs a poll.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from aioq.plugins import Token
from aioq_sqlite._rows import make_token, to_text

__all__ = ["Bell", "Bells", "Ring"]

LONGEST_PATH: Final = 100
"""Bytes that every system takes as the path of a socket."""
LARGEST: Final = 16_384
"""Bytes of a message; the queues named in a longer one do not matter: the worker looks itself."""
TOKEN: Final = len(make_token(b"", 0, b"", 0))
TOKENS: Final = 2_000 // TOKEN
"""In one message, which every system takes; a bell holds few messages unread (10 on Linux)."""
LOCALHOST: Final = "127.0.0.1"

WORK: Final = b"w"
CANCEL: Final = b"c"
POLL: Final = b"p"


class Ring:
    """What was rung since the last look."""

    __slots__ = ("cancels", "closed", "poll", "queues")

    def __init__(self) -> None:
        self.queues: set[str] = set()
        self.cancels: list[Token] = []
        self.poll = False
        self.closed = False


class Bell:
    """The doorbell of one worker of this process."""

    def __init__(self, folder: Path, name: str) -> None:
        self._idle = folder / f"{name}.idle"
        self._busy = folder / f"{name}.busy"
        self._queues: frozenset[str] | None = None
        path = folder / f"{name}.bell"
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= LONGEST_PATH:
            _remove(path)
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(os.fspath(path))
            self._entry = path
        else:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((LOCALHOST, 0))
            self._entry = folder / f"{name}.{self.socket.getsockname()[1]}.udp"
            self._entry.touch()
        self.socket.setblocking(False)
        # Heard in its own process whatever becomes of the entry, or of free descriptors.
        self._ringer = socket.socket(self.socket.family, socket.SOCK_DGRAM)
        self._ringer.setblocking(False)
        self._ringer.connect(self.socket.getsockname())
        self._ringing = threading.Lock()
        self._closing = False

    def nudge(self) -> None:
        """Ring this bell from its own process."""
        with self._ringing, contextlib.suppress(OSError):
            self._ringer.send(POLL)

    def end(self) -> None:
        """Tell who listens to stop, even if the bell is full and takes no other message."""
        self._closing = True
        self.nudge()

    def read(self) -> Ring:
        """Everything that was rung, without waiting."""
        ring = Ring()
        while True:
            try:
                message = self.socket.recv(LARGEST)
            except OSError:
                # Looked at last: had it been full, this is after what it was full of.
                ring.closed = self._closing
                return ring
            kind, text = message[:1], message[1:]
            if kind == WORK:
                ring.queues |= _unpack(text)
            elif kind == CANCEL:
                ring.cancels += [text[at : at + TOKEN] for at in range(0, len(text), TOKEN)]
            else:
                ring.poll = True

    def show_room(self, queues: Iterable[str]) -> None:
        """Tell the other processes that this worker can take more work of these queues."""
        served = frozenset(queues)
        with contextlib.suppress(OSError):
            if served != self._queues:
                _remove(self._idle)
                self._busy.write_bytes(_pack(served))
                self._queues = served
            self._busy.rename(self._idle)

    def hide_room(self) -> None:
        """Tell them that it is busy."""
        with contextlib.suppress(OSError):
            self._idle.rename(self._busy)

    def close(self) -> None:
        """Take the bell down."""
        for path in (self._idle, self._busy, self._entry):
            _remove(path)
        self.socket.close()
        with self._ringing:
            self._ringer.close()


class Bells:
    """All bells of a database; the own ones and those of other processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: dict[str, Bell] = {}
        self._last = ""

    def hang(self, worker: str) -> Bell:
        """A bell for this worker.

        Raises:
            OSError: none can be made.
        """
        self._folder.mkdir(exist_ok=True)
        self._sweep()
        bell = self._own[worker] = Bell(self._folder, _name(worker))
        return bell

    def take_down(self, worker: str, bell: Bell) -> None:
        """Remove this bell; work that it was told of and nobody has heard goes to another."""
        if self._own.get(worker) is bell:
            del self._own[worker]
        unheard = bell.read()
        bell.close()
        if unheard.queues:
            self.ring(unheard.queues)

    def close(self) -> None:
        """Tell everybody who listens in this process to stop."""
        for bell in list(self._own.values()):
            bell.end()

    def mark(self, rooms: Mapping[str, Sequence[str] | None]) -> None:
        """Show which workers of this process have room; called under the lock."""
        for worker, queues in rooms.items():
            if bell := self._own.get(worker):
                if queues is None:
                    bell.hide_room()
                else:
                    bell.show_room(queues)

    def ring(self, queues: Iterable[str]) -> None:
        """Wake workers with room, one for each of these queues; one may serve several."""
        wanted = set(queues)
        for name in self._idle():
            if not wanted:
                return
            idle = self._folder / f"{name}.idle"
            try:
                served = _unpack(idle.read_bytes())
                if wanted.isdisjoint(served):
                    continue
                idle.rename(idle.with_suffix(".busy"))
            except OSError:
                # Somebody else woke it.
                continue
            if self._send(name, WORK + _pack(wanted & served)):
                wanted -= served
                self._last = name
            else:
                # It is gone, and its entry with it; or it could not be rung now, and stays idle.
                with contextlib.suppress(OSError):
                    idle.with_suffix(".busy").rename(idle)

    def tell(self, worker: bytes, tokens: Sequence[Token]) -> None:
        """Ask a worker, by the bytes of its id, to stop deliveries."""
        name = _name(to_text(worker))
        for start in range(0, len(tokens), TOKENS):
            self._send(name, CANCEL + b"".join(tokens[start : start + TOKENS]))

    def _names(self, suffix: str) -> list[str]:
        try:
            names = [entry.name for entry in self._folder.iterdir()]
        except OSError:
            return []
        return [name for name in names if name.endswith(suffix)]

    def _idle(self) -> list[str]:
        """Who has room, in turn."""
        names = sorted(entry.removesuffix(".idle") for entry in self._names(".idle"))
        return [name for name in names if name > self._last] + [
            name for name in names if name <= self._last
        ]

    def _send(self, name: str, message: bytes) -> bool:
        """Whether it was handed over; what is left of one that is gone is removed."""
        try:
            _send(self._entry(name), message)
        except (FileNotFoundError, ConnectionRefusedError, ValueError):
            self._bury(name)
            return False
        except OSError:
            # No descriptor is left here, say, or no right: it may well be there.
            return False
        return True

    def _entry(self, name: str) -> Path:
        bell = self._folder / f"{name}.bell"
        if bell.exists():
            return bell
        for entry in self._folder.iterdir():
            if entry.name.startswith(f"{name}.") and entry.suffix == ".udp":
                return entry
        raise FileNotFoundError(bell)

    def _sweep(self) -> None:
        """Remove what killed workers left."""
        for entry in self._names(""):
            path = self._folder / entry
            if (path.suffix == ".bell" and not _answers(path)) or (
                path.suffix == ".udp" and _port_is_free(path)
            ):
                self._bury(entry.split(".")[0])

    def _bury(self, name: str) -> None:
        for entry in self._names(""):
            if entry.startswith(f"{name}."):
                _remove(self._folder / entry)


def _name(worker: str) -> str:
    """Short, for the sake of the path's length; the end of a UUID is random in all versions."""
    return worker[-12:]


def _pack(queues: Iterable[str]) -> bytes:
    return "\0".join(queues).encode("utf-8", "surrogatepass")


def _unpack(text: bytes) -> set[str]:
    return set(text.decode("utf-8", "replace").split("\0"))


def _port(entry: Path) -> int:
    return int(entry.name.split(".")[1])


def _send(entry: Path, message: bytes) -> None:
    """Send to the bell with this entry in the folder.

    Raises:
        OSError: ``FileNotFoundError`` or ``ConnectionRefusedError`` when nobody is there.
        ValueError: the name of the entry tells no port.
    """
    address: tuple[str, int] | str
    if entry.suffix == ".udp":
        family, address = socket.AF_INET, (LOCALHOST, _port(entry))
    elif hasattr(socket, "AF_UNIX"):
        family, address = socket.AF_UNIX, os.fspath(entry)
    else:
        raise ConnectionRefusedError(entry)
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        # One that is full has not read what it got before, and will.
        with contextlib.suppress(BlockingIOError):
            sender.sendto(message[:LARGEST], address)


def _answers(entry: Path) -> bool:
    """False when it is certain that nobody does."""
    if not hasattr(socket, "AF_UNIX"):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(os.fspath(entry))
    except OSError as exc:
        return not isinstance(exc, ConnectionRefusedError)
    return True


def _port_is_free(entry: Path) -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((LOCALHOST, _port(entry)))
    except OSError:
        return False
    except ValueError:
        return True
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
