"""A broker for aioq that keeps its jobs in one file."""

from aioq_filebroker._broker import FileBroker

__all__ = ["FileBroker"]
