"""``ctx``: the first argument of every task, a dict whose keys also read as attributes."""

from datetime import datetime
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    Union,
    get_args,
    get_origin,
    is_typeddict,
    overload,
)

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from aioq._app import Aarq
    from aioq._broker import BaseBroker

    S_co = TypeVar("S_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    S_co = TypeVar("S_co", covariant=True)

__all__ = ["Context", "may_be_context"]


class Context(dict[str, Any], Generic[S_co]):
    """What a task is told about its run. ``ctx["job_id"]`` and ``ctx.job_id`` are the same.

    Keys:
        worker_id: UUID of the executing worker.
        job_id: UUID of the job.
        broker: the broker the job came from.
        app: the app.
        task_name, queue: of this job.
        attempt: counts from 1; a retry is the next attempt.
        retries: retries so far (``attempt - 1``).
        enqueued_at: aware UTC datetime, by the store's clock.
        headers: text that travels beside the arguments.
        state: what the app's ``lifespan`` yielded; None without one.

    ``Context[State]`` types ``state``.
    """

    if TYPE_CHECKING:

        @overload
        def __getitem__(
            self, key: Literal["worker_id", "job_id", "task_name", "queue"], /
        ) -> str: ...
        @overload
        def __getitem__(self, key: Literal["attempt", "retries"], /) -> int: ...
        @overload
        def __getitem__(self, key: Literal["broker"], /) -> BaseBroker: ...
        @overload
        def __getitem__(self, key: Literal["app"], /) -> Aarq: ...
        @overload
        def __getitem__(self, key: Literal["enqueued_at"], /) -> datetime: ...
        @overload
        def __getitem__(self, key: Literal["headers"], /) -> dict[str, str]: ...
        @overload
        def __getitem__(self, key: Literal["state"], /) -> S_co: ...
        @overload
        def __getitem__(self, key: str, /) -> Any: ...
        def __getitem__(self, key: str, /) -> Any: ...

        @property
        def worker_id(self) -> str: ...
        @property
        def job_id(self) -> str: ...
        @property
        def broker(self) -> BaseBroker: ...
        @property
        def app(self) -> Aarq: ...
        @property
        def task_name(self) -> str: ...
        @property
        def queue(self) -> str: ...
        @property
        def attempt(self) -> int: ...
        @property
        def retries(self) -> int: ...
        @property
        def enqueued_at(self) -> datetime: ...
        @property
        def headers(self) -> dict[str, str]: ...
        @property
        def state(self) -> S_co: ...

    def __getattr__(self, name: str) -> Any:
        """Every key reads as an attribute, also one that middleware has added."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"ctx has no {name!r}; it has {', '.join(sorted(self))}") from None


def may_be_context(hint: Any) -> bool:
    """Whether what is annotated like this can be a ``Context``; in doubt it can."""
    kind = get_origin(hint) or hint
    if kind is Annotated:
        return may_be_context(get_args(hint)[0])
    if kind is Union or kind is UnionType:
        return any(map(may_be_context, get_args(hint)))
    if kind is Any or not isinstance(kind, type):
        return True
    if is_typeddict(kind) or getattr(kind, "_is_protocol", False):
        return True
    return issubclass(Context, kind) or issubclass(kind, Context)
