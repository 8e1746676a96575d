"""What a task tells its worker by raising it: ``Retry``, ``Snooze``, ``Abort``."""

from aioq.errors import Abort, Retry, Snooze

__all__ = ["instruction_in"]


def instruction_in(error: BaseException) -> Retry | Snooze | Abort | None:
    """The instruction that ``error`` is, or that it wraps: a task group wraps what its children
    raise, and the instruction inside still counts when it is alone."""
    match error:
        case Retry() | Snooze() | Abort():
            return error
        case BaseExceptionGroup(exceptions=[only]):
            return instruction_in(only)
        case _:
            return None
