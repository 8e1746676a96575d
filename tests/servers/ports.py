"""Where private servers listen."""

import itertools
import os
import socket

__all__ = ["HOST", "free_port"]

HOST = "127.0.0.1"
FIRST = 10_000
SHARE = 1_000
"""Ports of each of the processes that run tests side by side."""

_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """A port nobody listens on now, and that no other test gets.

    It lies below those that the system gives to clients, of which one could take it before the
    server does, or while that is down: a client that calls where nobody listens may even meet
    itself. So does the port 10 000 above it, which a node of a Redis cluster needs as well.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in itertools.islice(_numbers, SHARE):
        port = FIRST + worker % 12 * SHARE + number % SHARE
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise OSError(f"all {SHARE} ports from {FIRST + worker % 12 * SHARE} on are taken")
