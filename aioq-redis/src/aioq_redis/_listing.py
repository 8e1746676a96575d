"""Jobs by filter: a page of them, how many they are, and those that may be deleted."""

import heapq
from collections.abc import AsyncIterator, Sequence

from aioq.errors import InvalidOption
from aioq.plugins import FINISHED, MAX_BATCH, Filter, JobInfo, Page, Status
from aioq_redis._look import Finder
from aioq_redis._packing import pack_id
from aioq_redis._registry import Registry
from aioq_redis._scripts import Scripts
from aioq_redis._store import Store

__all__ = ["Listing", "Place", "place_of"]

Place = tuple[bytes, str]
"""Where a job stands in a listing: its id, and its queue, for another may have the same id."""

_SLICE = 1000
_FIRST_SLICE = 50
_SLICE_BYTES = 1_000_000
"""What a slice may read: Redis does nothing else meanwhile."""
_BODIES = 32
"""Jobs that are read whole in one call, each of which may have a body of ``max_payload``."""
_LIVE, _DONE = ("j", "H"), ("k", "H")
_PLACES: dict[Status, tuple[tuple[str, str], ...]] = {
    "pending": (("r", "Z"), ("q", "Z")),
    "scheduled": (("s", "Z"),),
    "retrying": (("t", "S"),),
    "running": (("o", "H"),),
    "completed": (("dr", "Z"), ("dc", "Z")),
    "failed": (("df", "Z"),),
    "cancelled": (("dx", "Z"),),
    "dead": (("dd", "Z"),),
}
_STATUS: dict[str, Status] = {
    "p": "pending",
    "s": "scheduled",
    "t": "retrying",
    "c": "completed",
    "f": "failed",
    "x": "cancelled",
    "d": "dead",
}
"""Letters of lua/places.lua for jobs that do not run."""


class Listing:
    """Goes through the ids of what may match.

    Ids are kept in no order, so that jobs need no index for the sake of listings: each call goes
    through all of them, in slices.

    Args:
        store: the connections.
        scripts: what to call.
        registry: which queues there are.
        finder: reads jobs.
    """

    def __init__(self, store: Store, scripts: Scripts, registry: Registry, finder: Finder) -> None:
        self._store = store
        self._scripts = scripts
        self._registry = registry
        self._finder = finder

    async def page(self, where: Filter, limit: int, below: Place | None) -> Page:
        """As ``BaseBroker.find``."""
        jobs: list[JobInfo] = []
        while True:
            newest = await self._newest(where, limit + 1 - len(jobs), below)
            jobs += [info for info in await self._read(newest) if _matches(info, where)]
            if len(jobs) > limit:
                last = jobs[limit - 1]
                return Page(jobs[:limit], f"{last.id}.{last.queue}")
            if not newest:
                return Page(jobs, None)
            below = newest[-1]

    async def delete(self, where: Filter, limit: int) -> int:
        """As ``BaseBroker.delete_where``."""
        found: dict[Place, None] = {}
        async for places in self._resting(where):
            found.update(dict.fromkeys(places))
            if len(found) >= limit:
                break
        deleted = 0
        for queue, ids in _by_queue(list(found)[:limit]).items():
            for start in range(0, len(ids), MAX_BATCH):
                batch = ids[start : start + MAX_BATCH]
                results = [self._store.keys.result(queue, raw) for raw in batch]
                reply = await self._store.run(self._scripts.delete, queue, batch, results)
                deleted += reply.count(b"y")
        return deleted

    async def count(self, where: Filter) -> int:
        """As ``BaseBroker.count_where``."""
        found: set[Place] = set()
        async for places in self._resting(where):
            found.update(places)
        return len(found)

    async def _read(self, places: Sequence[Place]) -> list[JobInfo]:
        infos: list[JobInfo] = []
        for start in range(0, len(places), _BODIES):
            batch = places[start : start + _BODIES]
            found = await self._finder.look(_by_queue(batch))
            infos += [found[place] for place in batch if place in found]
        return infos

    async def _newest(self, where: Filter, most: int, below: Place | None) -> list[Place]:
        """The highest places that may match, in falling order."""
        newest: set[Place] = set()
        for queue in await self._queues_of(where):
            async for raw_ids in self._candidates(queue, where):
                places = ((raw, queue) for raw in raw_ids)
                newest.update(place for place in places if below is None or place < below)
                if len(newest) > most + _SLICE:
                    newest = set(heapq.nlargest(most, newest))
        return heapq.nlargest(most, newest)

    async def _resting(self, where: Filter) -> AsyncIterator[list[Place]]:
        """Slices of places of jobs that match and do not run; one may come twice."""
        statuses = frozenset(_STATUS.values()) if where.status is None else frozenset(where.status)
        if where.finished_for_ms is not None:
            statuses &= FINISHED
        for queue in await self._queues_of(where):
            async for ids in self._candidates(queue, where):
                for start in range(0, len(ids), MAX_BATCH):
                    batch = ids[start : start + MAX_BATCH]
                    letters = await self._store.run(self._scripts.places, queue, batch)
                    yield [
                        (raw, queue)
                        for raw, letter in zip(batch, letters.decode(), strict=True)
                        if _STATUS.get(letter) in statuses
                    ]

    async def _queues_of(self, where: Filter) -> list[str]:
        return await self._registry.queues() if where.queue is None else [where.queue]

    async def _candidates(self, queue: str, where: Filter) -> AsyncIterator[list[bytes]]:
        """Slices of ids whose jobs may match; an id may come twice."""
        live = where.finished_for_ms is None
        if where.status is None:
            places = [*([_LIVE] if live else []), _DONE]
        else:
            places = [
                place
                for status in sorted(where.status)
                if live or status in FINISHED
                for place in _PLACES[status]
            ]
        first: bytes | None = None
        last: bytes | None = None
        for place in places:
            async for requeued, ids in self._scan(queue, place, where):
                first = requeued if first is None else first
                yield ids
                last = requeued
        if where.status is None and live and first != last:
            # Jobs went from done to live meanwhile, maybe behind our back.
            async for _, ids in self._scan(queue, _LIVE, where):
                yield ids

    async def _scan(
        self, queue: str, place: tuple[str, str], where: Filter
    ) -> AsyncIterator[tuple[bytes, list[bytes]]]:
        name, kind = place
        task = where.task or ""
        finished = "" if where.finished_for_ms is None else where.finished_for_ms
        cursor, amount = b"0", _FIRST_SLICE
        while True:
            args = [cursor, amount, kind, task, finished]
            cursor, requeued, read, *ids = await self._store.run(
                self._scripts.scan, queue, args, [self._store.keys.of(queue, name)]
            )
            yield requeued, ids
            if cursor == b"0":
                return
            room = amount * _SLICE_BYTES // max(read, 1)
            amount = max(1, min(room, 2 * amount, _SLICE))


def place_of(cursor: str) -> Place:
    """Where a page begins: below this job.

    Raises:
        InvalidOption: it is no cursor.
    """
    job_id, _, queue = cursor.partition(".")
    try:
        return pack_id(job_id), queue
    except ValueError:
        raise InvalidOption(
            f"{cursor!r} is no cursor that a listing gave: pass that of the page before, or none"
        ) from None


def _by_queue(places: Sequence[Place]) -> dict[str, list[bytes]]:
    by_queue: dict[str, list[bytes]] = {}
    for raw, queue in places:
        by_queue.setdefault(queue, []).append(raw)
    return by_queue


def _matches(info: JobInfo, where: Filter) -> bool:
    return (where.task is None or info.task == where.task) and (
        where.status is None or info.status in where.status
    )
