"""What has to be made anew in a process that was forked: locks and threads of the parent's."""

import os
from collections.abc import Callable

__all__ = ["after_fork"]


def after_fork(renew: Callable[[], None]) -> None:
    """Call ``renew`` in every child of this process that is made by fork, before anything else."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)
