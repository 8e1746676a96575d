"""Looking at jobs by id, in all known queues, and counting them."""

import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from aioq.errors import AioqError
from aioq.plugins import JobInfo, QueueStats
from aioq_redis._packing import live_info, pack_id, record_info, unpack_id
from aioq_redis._registry import Registry
from aioq_redis._scripts import Script, Scripts
from aioq_redis._store import Call, Store

__all__ = ["Finder"]

_T = TypeVar("_T")
_Ask = Callable[[str, Sequence[bytes]], list[Call]]
"""The calls that look for ids in a queue; the reply of the last one tells."""
_Read = Callable[[str, Sequence[bytes], Any], Awaitable[Sequence[_T | None]]]
"""What that reply says of each id: None where the queue does not have it."""


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

    # -- by id -------------------------------------------------------------------------------------

    async def get(self, job_ids: Sequence[str]) -> list[JobInfo | None]:
        """As ``BaseBroker.get``."""

        def ask(queue: str, ids: Sequence[bytes]) -> list[Call]:
            return [Call(self._scripts.look, queue, ids)]

        return await self._everywhere(job_ids, ask, self._read)

    async def watch(self, job_ids: Sequence[str], channel: str) -> list[JobInfo | None]:
        """The same, and the channel hears when those that live have finished."""

        def ask(queue: str, ids: Sequence[bytes]) -> list[Call]:
            watch = Call(self._scripts.watch, queue, [channel, *ids])
            return [watch, Call(self._scripts.look, queue, ids)]

        return await self._everywhere(job_ids, ask, self._read)

    async def where_they_are(
        self,
        script: Script,
        job_ids: Sequence[str],
        *,
        args: Callable[[str], Sequence[Any]] = lambda _: (),
        results: bool = False,
    ) -> dict[int, str]:
        """Run a script that takes ids on the queues that have them: place in the call -> letter.

        Args:
            script: what to run.
            job_ids: for which jobs.
            args: gives what comes before the ids for a queue.
            results: it takes the keys of their results as well.
        """

        def ask(queue: str, ids: Sequence[bytes]) -> list[Call]:
            return [Call(self._scripts.places, queue, ids)]

        async def read(queue: str, _: Sequence[bytes], reply: bytes) -> list[str | None]:
            return [queue if letter != "-" else None for letter in reply.decode()]

        by_queue: dict[str, list[int]] = {}
        for place, queue in enumerate(await self._everywhere(job_ids, ask, read)):
            if queue is not None:
                by_queue.setdefault(queue, []).append(place)
        calls: list[Call] = []
        for queue, places in by_queue.items():
            ids = [pack_id(job_ids[place]) for place in places]
            keys = [self._store.keys.result(queue, raw) for raw in ids] if results else ()
            calls.append(Call(script, queue, [*args(queue), *ids], keys))
        answers: dict[int, str] = {}
        replies = await self._store.run_all(calls) if calls else []
        for places, reply in zip(by_queue.values(), replies, strict=True):
            answers.update(zip(places, reply.decode(), strict=True))
        return answers

    async def look(self, by_queue: dict[str, list[bytes]]) -> dict[tuple[bytes, str], JobInfo]:
        """Those of these ids that are in their queue, each of which is asked for its own only."""
        calls = [Call(self._scripts.look, queue, ids) for queue, ids in by_queue.items()]
        found: dict[tuple[bytes, str], JobInfo] = {}
        replies = await self._store.run_all(calls)
        for (queue, ids), reply in zip(by_queue.items(), replies, strict=True):
            for raw, info in zip(ids, await self._read(queue, ids, reply), strict=True):
                if info is not None:
                    found[raw, queue] = info
        return found

    async def _everywhere(
        self, job_ids: Sequence[str], ask: _Ask, read: _Read[_T]
    ) -> list[_T | None]:
        """Where the known queues do not have a job, the registry may know others."""
        found: list[_T | None] = [None] * len(job_ids)
        wanted: dict[int, bytes] = {}
        for place, job_id in enumerate(job_ids):
            try:
                wanted[place] = pack_id(job_id)
            except ValueError:
                continue
        asked = list(self._registry.known)
        failure = await self._among(asked, wanted, found, ask, read)
        if wanted:
            others = [queue for queue in await self._registry.queues() if queue not in asked]
            failure = await self._among(others, wanted, found, ask, read) or failure
        if wanted and failure is not None:
            raise failure
        return found

    async def _among(
        self,
        queues: Sequence[str],
        wanted: dict[int, bytes],
        found: list[_T | None],
        ask: _Ask,
        read: _Read[_T],
    ) -> AioqError | None:
        """Look for the wanted in these queues; who is found is wanted no longer.

        Returns why some of the queues could not be asked, which matters if anybody is still wanted;
        raises it when that goes for all of them.
        """
        if not queues or not wanted:
            return None
        places, ids = list(wanted), list(wanted.values())
        calls = [ask(queue, ids) for queue in queues]
        step = len(calls[0])
        replies = await self._store.run_each([call for group in calls for call in group])
        failures: list[AioqError] = []
        for queue, reply in zip(queues, replies[step - 1 :: step], strict=True):
            if isinstance(reply, AioqError):
                failures.append(reply)
                continue
            for place, item in zip(places, await read(queue, ids, reply), strict=True):
                if item is not None and place in wanted:
                    found[place] = item
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
            names = [self._store.keys.result(queue, raw_ids[place]) for place in with_result]
            results = await self._store.command(queue, b"MGET", *names)
            for place, result in zip(with_result, results, strict=True):
                info = infos[place]
                assert info is not None
                # Redis has expired the result, a moment before its record.
                infos[place] = None if result is None else info._replace(result=result)
        return infos

    # -- counts ------------------------------------------------------------------------------------

    async def counts(self, queues: Iterable[str] | None) -> list[QueueStats]:
        """As ``BaseBroker.counts``."""
        names = await self._registry.queues() if queues is None else sorted(set(queues))
        calls = [Call(self._scripts.counts, name, ()) for name in names]
        replies = await self._store.run_all(calls) if calls else []
        return [_stats(name, reply) for name, reply in zip(names, replies, strict=True)]


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
