"""Looking at jobs: by id in all known queues, by filter in pages, in counts."""

import heapq
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from aioq.errors import AioqError, InvalidOption
from aioq.plugins import FINISHED, MAX_BATCH, Filter, JobInfo, Page, QueueStats, Status
from aioq_redis._keys import Keys
from aioq_redis._packing import live_info, pack_id, record_info, unpack_id
from aioq_redis._registry import Registry
from aioq_redis._scripts import Script, Scripts
from aioq_redis._store import Call, Store

__all__ = ["Finder", "place_of"]

_SLICE = 1000
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


class Finder:
    """Looks into the queues that the registry knows.

    Args:
        store: the connections.
        scripts: what to call.
        registry: which queues there are.
    """

    def __init__(self, store: Store, scripts: Scripts, registry: Registry) -> None:
        self._store = store
        self._scripts = scripts
        self._registry = registry
        self._keys: Keys = store.keys

    # -- by id -------------------------------------------------------------------------------------

    async def get(self, job_ids: Sequence[str]) -> list[JobInfo | None]:
        """As ``BaseBroker.get``."""
        return await self._everywhere(job_ids, None)

    async def watch(self, job_ids: Sequence[str], channel: str) -> list[JobInfo | None]:
        """The same, and the channel hears when those that live have finished."""
        return await self._everywhere(job_ids, channel)

    async def where_they_are(
        self, script: Script, job_ids: Sequence[str], args: Callable[[str], Sequence[Any]]
    ) -> dict[int, str]:
        """Run a script that takes ids on the queues that have them: place in the call -> letter.

        ``args`` gives what comes before the ids for a queue.
        """
        found = await self.get(job_ids)
        by_queue: dict[str, list[int]] = {}
        for place, info in enumerate(found):
            if info is not None:
                by_queue.setdefault(info.queue, []).append(place)
        calls: list[Call] = []
        for queue, places in by_queue.items():
            ids = [pack_id(job_ids[place]) for place in places]
            results = [self._keys.result(queue, raw) for raw in ids]
            calls.append(Call(script, queue, [*args(queue), *ids], results))
        answers: dict[int, str] = {}
        replies = await self._store.run_all(calls) if calls else []
        for places, reply in zip(by_queue.values(), replies, strict=True):
            answers.update(zip(places, reply.decode(), strict=True))
        return answers

    async def _everywhere(
        self, job_ids: Sequence[str], channel: str | None
    ) -> list[JobInfo | None]:
        """Where the known queues do not have a job, the registry may know others."""
        found: list[JobInfo | None] = [None] * len(job_ids)
        wanted: dict[int, bytes] = {}
        for place, job_id in enumerate(job_ids):
            try:
                wanted[place] = pack_id(job_id)
            except ValueError:
                continue
        asked: list[str] = list(self._registry.known)
        failure = await self._ask(asked, wanted, channel, found)
        if wanted:
            others = [queue for queue in await self._registry.queues() if queue not in asked]
            failure = await self._ask(others, wanted, channel, found) or failure
        if wanted and failure is not None:
            raise failure
        return found

    async def _ask(
        self,
        queues: Sequence[str],
        wanted: dict[int, bytes],
        channel: str | None,
        found: list[JobInfo | None],
    ) -> AioqError | None:
        """Look for the wanted in these queues; who is found is wanted no longer.

        Returns why some of the queues could not be asked, which matters if anybody is still wanted;
        raises it when that goes for all of them.
        """
        if not queues or not wanted:
            return None
        places, ids = list(wanted), list(wanted.values())
        calls: list[Call] = []
        for queue in queues:
            if channel is not None:
                calls.append(Call(self._scripts.watch, queue, [channel, *ids]))
            calls.append(Call(self._scripts.look, queue, ids))
        replies = await self._store.run_each(calls)
        step = 1 if channel is None else 2
        failures: list[AioqError] = []
        for queue, reply in zip(queues, replies[step - 1 :: step], strict=True):
            if isinstance(reply, AioqError):
                failures.append(reply)
                continue
            infos = await self._read(queue, ids, reply)
            for place, info in zip(places, infos, strict=True):
                if info is not None and place in wanted:
                    found[place] = info
                    del wanted[place]
        if len(failures) == len(queues):
            raise failures[0]  # the registry would give no better answer
        return failures[0] if failures else None

    async def _read(
        self, queue: str, raw_ids: Sequence[bytes], reply: Sequence[Any]
    ) -> list[JobInfo | None]:
        infos: list[JobInfo | None] = []
        with_result: list[int] = []
        for place, (raw, entry) in enumerate(zip(raw_ids, reply, strict=True)):
            info: JobInfo | None = None
            if entry:
                try:
                    if len(entry) > 1:
                        info = live_info(unpack_id(raw), queue, *entry)
                    else:
                        info, has_result = record_info(unpack_id(raw), queue, entry[0])
                        if has_result:
                            with_result.append(place)
                except (struct.error, KeyError):
                    info = None  # somebody wrote here by hand
            infos.append(info)
        if with_result:
            names = [self._keys.result(queue, raw_ids[place]) for place in with_result]
            results = await self._store.command(queue, b"MGET", *names)
            for place, result in zip(with_result, results, strict=True):
                info = infos[place]
                assert info is not None
                # Redis has expired the result, a moment before its record.
                infos[place] = None if result is None else info._replace(result=result)
        return infos

    # -- by filter ---------------------------------------------------------------------------------

    async def page(self, where: Filter, limit: int, below: bytes | None) -> Page:
        """As ``BaseBroker.find``.

        Ids are kept in no order, so that jobs need no index for the sake of listings: each page
        goes through the ids of what may match, in slices, and keeps the newest.
        """
        jobs: list[JobInfo] = []
        while True:
            newest = await self._newest(where, limit + 1 - len(jobs), below)
            infos = await self._look_up(newest)
            jobs += [info for info in infos if info is not None and _matches(info, where)]
            if len(jobs) > limit:
                return Page(jobs[:limit], jobs[limit - 1].id)
            if not newest:
                return Page(jobs, None)
            below = newest[-1]

    async def some(self, where: Filter, limit: int) -> list[str]:
        """Ids of up to ``limit`` jobs that match and do not run."""
        found: dict[str, None] = {}
        async for job_ids in self._resting(where):
            found.update(dict.fromkeys(job_ids))
            if len(found) >= limit:
                break
        return list(found)[:limit]

    async def count(self, where: Filter) -> int:
        """How many jobs match and do not run."""
        found: set[bytes] = set()
        async for job_ids in self._resting(where):
            found.update(map(pack_id, job_ids))
        return len(found)

    async def _resting(self, where: Filter) -> AsyncIterator[list[str]]:
        """Slices of ids of jobs that match and do not run; an id may come twice."""
        for queue in await self._queues_of(where):
            async for raw_ids in self._candidates(queue, where):
                yield [
                    info.id
                    for info in await self._look_up(raw_ids)
                    if info is not None and info.status != "running" and _matches(info, where)
                ]

    async def _look_up(self, raw_ids: Sequence[bytes]) -> list[JobInfo | None]:
        infos: list[JobInfo | None] = []
        for start in range(0, len(raw_ids), MAX_BATCH):
            batch = raw_ids[start : start + MAX_BATCH]
            infos += await self.get([unpack_id(raw) for raw in batch])
        return infos

    async def _newest(self, where: Filter, most: int, below: bytes | None) -> list[bytes]:
        """The highest ids that may match, in falling order."""
        newest: set[bytes] = set()
        for queue in await self._queues_of(where):
            async for raw_ids in self._candidates(queue, where):
                newest.update(raw for raw in raw_ids if below is None or raw < below)
                if len(newest) > most + _SLICE:
                    newest = set(heapq.nlargest(most, newest))
        return heapq.nlargest(most, newest)

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
        cursor = b"0"
        while True:
            args = [cursor, _SLICE, kind, task, finished]
            cursor, requeued, *ids = await self._store.run(
                self._scripts.scan, queue, args, [self._keys.of(queue, name)]
            )
            yield requeued, ids
            if cursor == b"0":
                return

    # -- counts ------------------------------------------------------------------------------------

    async def counts(self, queues: Iterable[str] | None) -> list[QueueStats]:
        """As ``BaseBroker.counts``."""
        names = await self._registry.queues() if queues is None else sorted(set(queues))
        calls = [Call(self._scripts.counts, name, ()) for name in names]
        replies = await self._store.run_all(calls) if calls else []
        return [_stats(name, reply) for name, reply in zip(names, replies, strict=True)]


def place_of(cursor: str) -> bytes:
    """Where a page begins: below this id.

    Raises:
        InvalidOption: it is no cursor.
    """
    try:
        return pack_id(cursor)
    except ValueError:
        raise InvalidOption(
            f"{cursor!r} is no cursor that a listing gave: pass that of the page before, or none"
        ) from None


def _stats(name: str, reply: Sequence[int]) -> QueueStats:
    ready, quarantined, scheduled, retrying, running = reply[:5]
    completed, failed, cancelled, dead, paused, waited = reply[5:]
    return QueueStats(
        name,
        pending=ready + quarantined,
        scheduled=scheduled - retrying,
        running=running,
        retrying=retrying,
        completed=completed,
        failed=failed,
        cancelled=cancelled,
        dead=dead,
        quarantined=quarantined,
        oldest_due=None if waited < 0 else waited / 1000,
        paused=paused == 1,
    )


def _matches(info: JobInfo, where: Filter) -> bool:
    return (
        (where.queue is None or info.queue == where.queue)
        and (where.task is None or info.task == where.task)
        and (where.status is None or info.status in where.status)
    )
