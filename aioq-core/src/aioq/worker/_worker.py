"""``Worker``: takes an app's jobs from its broker and runs them until it is told to stop."""

import os
import socket
from contextlib import AsyncExitStack, aclosing, nullcontext
from contextvars import Context
from importlib.metadata import version
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio

from aioq import _background
from aioq._clock import monotonic
from aioq._current import WORKER, current_worker
from aioq._log import get_logger
from aioq._records import WorkerInfo
from aioq.errors import AioqError
from aioq.worker._attempts import Attempt, Attempts, Cause
from aioq.worker._contexts import JobContexts
from aioq.worker._executor import Executor
from aioq.worker._fetcher import Fetcher
from aioq.worker._health import Health, HealthReport
from aioq.worker._leases import LeaseKeeper
from aioq.worker._loops import Step, run_loop
from aioq.worker._options import WorkerOptions
from aioq.worker._settler import Settler
from aioq.worker._signals import SECOND_SIGNAL, stop_on_signals
from aioq.worker._threads import Threads
from aioq.worker._upkeep import BEAT_INTERVAL, Beat, UpkeepLoop

if TYPE_CHECKING:
    from aioq._app import Aarq
    from aioq.worker._health_server import HealthServer

__all__ = ["Worker"]

LAST_RESORT = 1.2
"""Seconds beyond the shutdown timeout for what was cancelled to end and be stored."""
FAREWELL = 0.3
"""Seconds to leave the registry."""
HEALTHY_SILENCE = 8.0
"""Seconds: with what it takes to notice and to be asked, a lost store shows within 10."""
HINTS_AGAIN = 1.0


class Worker:
    """Serves one app in this process and event loop.

    Args:
        app: the app whose tasks to run.
        options: see ``WorkerOptions``.

    Attributes:
        id: UUID of this worker, new at each start; the owner of its deliveries.
    """

    def __init__(self, app: "Aarq", options: WorkerOptions | None = None) -> None:
        self.id = str(uuid4())
        self.app = app
        self.options = options or WorkerOptions()
        self.queues = self.options.queues or app.queues
        self.log: Any = get_logger()
        self._started = monotonic()
        self._running: _Run | None = None
        self._stop_asked = False
        self._hears_signals = False

    @property
    def abandoned(self) -> int:
        """Plain functions that still run in threads although their jobs were given up.

        Python waits for these threads at the end of a program; ``aioq worker`` does not.
        """
        return self._running.threads.running if self._running else 0

    @property
    def health_port(self) -> int | None:
        """The port that is served; differs from the option where that is 0."""
        server = self._running.health_server if self._running else None
        return server.port if server else None

    def health(self) -> HealthReport:
        """How it stands, as the health port tells it; may be asked from any thread."""
        return self._running.health.report() if self._running else HealthReport("starting", True)

    def stop(self, reason: str = "asked") -> None:
        """Begin a graceful stop; call it from the worker's event loop."""
        self._begin_stop(reason, self.options.shutdown_timeout)

    def _begin_stop(self, reason: str, waits: float) -> None:
        self._stop_asked = True
        run = self._running
        if run is None or run.stopping.is_set():
            return
        told: dict[str, Any] = {"running": run.attempts.running}
        if told["running"] and waits:
            told["waits"] = waits
            if self._hears_signals:
                told["hint"] = SECOND_SIGNAL
        self.log.info("worker.stopping", reason=reason, worker_id=self.id, **told)
        run.stopping.set()

    async def run(self, *, signals: bool = False) -> None:
        """Work until ``stop`` is called, or, in burst mode, until nothing is left to do.

        A graceful stop claims no more, gives back what has not started, waits for running jobs up
        to the shutdown timeout, cancels and gives back the rest, and stores every outcome. When the
        awaiting task is cancelled, running jobs are given back without waiting for them.

        Args:
            signals: stop on SIGTERM and SIGINT; another, half a second or more after it, leaves
                at once.

        Raises:
            ConfigurationError: the app or the store cannot be used as they are.
            BrokerUnavailable: the store is out of reach at the start.
        """
        with stop_on_signals(self.stop) if signals else nullcontext():
            # an empty context: nothing of the caller's (a trace span) is inherited by every job
            self._hears_signals = signals
            context = Context()
            context.run(WORKER.set, self.describe())
            task = _background.spawn(self._run(), context)
            try:
                await _background.join(task)
            except anyio.get_cancelled_exc_class():
                self._hurry(task)
                # anyio repeats its cancels; a second one of asyncio's own cuts this short
                with anyio.CancelScope(shield=True):
                    await _background.join(task)
                raise
            finally:
                self._stop_asked = False
        self.log.info("worker.stopped", worker_id=self.id)

    def _hurry(self, task: _background.Task) -> None:
        self._begin_stop("its task was cancelled", waits=0)
        if self._running is not None and self._running.working:
            self._running.hurry()
        else:
            task.cancel()

    async def _run(self) -> None:
        runtime = self.app.freeze()
        for task in self.app.tasks.values():
            task.signature.check()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.app.connections.working())
            self._running = run = _Run(self)
            stack.callback(run.close)
            for layer in runtime.layers:
                if (lifespan := layer.lifespan(self.app)) is not None:
                    await stack.enter_async_context(lifespan)
            if self.app.lifespan is not None:
                run.executor.state = await stack.enter_async_context(self.app.lifespan(self.app))
            if self._stop_asked:
                run.stopping.set()
            context = runtime.background.copy()
            context.run(WORKER.set, current_worker())
            await _background.within(context, run.work())

    def describe(self) -> WorkerInfo:
        """The worker as it stands in the registry."""
        return WorkerInfo(
            id=self.id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queues=self.queues,
            concurrency=self.options.concurrency,
            version=version("aioq-core"),
            running=self._running.attempts.running if self._running else 0,
            uptime=monotonic() - self._started,
        )


class _Run:
    """The parts of a worker while it runs, and how they begin and end."""

    def __init__(self, worker: Worker) -> None:
        runtime = worker.app.freeze()
        options = worker.options
        self._worker = worker
        self._log = worker.log
        self._broker = runtime.broker
        self._options = options
        self._grace = anyio.CancelScope()
        self.stopping = anyio.Event()
        self._used_up = False
        self.working = False
        """Between the start-up and the last lifespan's end: the only time a stop is orderly."""
        self.attempts = Attempts(options.concurrency)
        self.health = Health()
        self._settler = Settler(runtime.broker, self.health, self._log, runtime.background)
        self.threads = Threads(self.attempts)
        self.executor = Executor(
            worker.app,
            runtime,
            worker_id=worker.id,
            attempts=self.attempts,
            settler=self._settler,
            threads=self.threads,
            grace=options.unknown_task_grace,
            came_back=self._wake,
            log=self._log,
        )
        self._fetcher = Fetcher(
            runtime.broker,
            worker.id,
            worker.queues,
            options,
            self.attempts,
            self._settler,
            JobContexts(current_worker() or worker.describe()),
            self._start,
            self._log,
        )
        self._leases = LeaseKeeper(
            runtime.broker, self.attempts, options, self.health, self._log, runtime.background
        )
        self._upkeep = UpkeepLoop(runtime.broker, worker.queues, options)
        self._expect_loops()
        self.health_server = self._serve_health()

    def _serve_health(self) -> "HealthServer | None":
        host, port = self._options.health_host, self._options.health_port
        if port is None:
            return None
        from aioq.worker._health_server import HealthServer

        return HealthServer(self.health.report, host, port)

    def _expect_loops(self) -> None:
        stall = inf if self._options.stall_limit is None else self._options.stall_limit
        self.health.expect("event_loop", HEALTHY_SILENCE, fatal_after=stall)
        self.health.expect("slots", HEALTHY_SILENCE, fatal_after=stall)
        self.health.expect("fetch", HEALTHY_SILENCE)
        self.health.expect("settle", HEALTHY_SILENCE)
        self.health.expect("upkeep", HEALTHY_SILENCE)
        self.health.expect("beat", BEAT_INTERVAL + HEALTHY_SILENCE)
        self.health.expect("leases", self._options.lease / 3 + HEALTHY_SILENCE)

    def close(self) -> None:
        if self.health_server is not None:
            self.health_server.close()
            self.health_server = None

    def _start(self, attempt: Attempt) -> None:
        # the attempt keeps the task alive
        attempt.task = _background.spawn(self.executor.execute(attempt), attempt.context)

    def _wake(self) -> None:
        self._fetcher.wake()

    async def work(self) -> None:
        """Run all loops until the stop, then wind down in order."""
        self.working = True
        self.health.begin()
        self._leases.start()
        beat = Beat(self._broker, self._worker.describe)
        fetched = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._loop, "upkeep", self._upkeep.step)
                group.start_soon(self._loop, "beat", beat.step)
                group.start_soon(self._loop, "hints", self._listen)
                group.start_soon(self._tick)
                group.start_soon(self._fetch, fetched)
                if self._options.burst:
                    group.start_soon(self._stop_when_exhausted)
                self._tell_started()
                await self.stopping.wait()
                await self._wind_down(fetched)
                group.cancel_scope.cancel()
        finally:
            self.health.stopped()
            self._settler.give_up()
            for attempt in self.attempts.snapshot():
                attempt.abandon()
            self._leases.stop()
            with anyio.move_on_after(FAREWELL, shield=True):
                await self._leave()
            self.working = False

    def _tell_started(self) -> None:
        served = {} if self.health_server is None else {"health_port": self.health_server.port}
        self._log.info("worker.started", worker_id=self._worker.id, **served)

    async def _loop(self, name: str, step: Step) -> None:
        await run_loop(name, step, stopping=self.stopping, health=self.health, log=self._log)

    async def _fetch(self, fetched: anyio.Event) -> None:
        await self._loop("fetch", self._fetcher.step)
        fetched.set()

    async def _stop_when_exhausted(self) -> None:
        await self._fetcher.exhausted.wait()
        self._worker.stop(f"nothing is left to do{await self._paused()}")

    async def _paused(self) -> str:
        """What a burst leaves behind: jobs that wait in paused queues."""
        try:
            stats = await self._broker.counts(self._worker.queues)
        except AioqError:
            return ""
        paused = [queue.queue for queue in stats if queue.paused and queue.pending]
        return f", but in queues that are paused: {', '.join(paused)}" if paused else ""

    async def _listen(self) -> None:
        """Hints of work wake the fetcher, hints of a cancel stop the job."""
        hints = self._broker.hints(self._worker.describe(), lambda: self.attempts.free)
        async with aclosing(hints):  # type: ignore[type-var]
            async for hint in hints:
                if hint.cancel is None:
                    self._fetcher.wake()
                else:
                    for attempt in self.attempts.with_tokens((hint.cancel,)):
                        attempt.stop(Cause.CANCEL)
        await anyio.sleep(HINTS_AGAIN)  # they should not end; where they do, polls must suffice

    async def _tick(self) -> None:
        """Tells the lease thread that the loop turns, and does what the thread has learnt."""
        while True:
            self._leases.tick()
            self._look_around()
            while self._leases.news:
                renewed = self._leases.news.popleft()
                for attempt in self.attempts.with_tokens(renewed.cancelled):
                    attempt.stop(Cause.CANCEL)
                for attempt in self.attempts.with_tokens(renewed.lost):
                    self._lost(attempt)
            await anyio.sleep(self._leases.tick_every)

    def _look_around(self) -> None:
        """Tell the health of what has no loop of its own, or nothing to do."""
        self.health.ok("event_loop")
        if not self._settler.open:
            self.health.ok("settle", idle=True)
        trouble = self.threads.trouble
        if trouble is None:
            self.health.ok("slots")
        else:
            self.health.failed("slots", trouble)
            if not self._used_up and not self.stopping.is_set():
                self._log.error(
                    "worker.slots_used_up",
                    reason=trouble,
                    hint="nothing runs here until one of them returns: give what they wait for a "
                    "time-out of its own, and restart the worker",
                )
        self._used_up = trouble is not None

    def _lost(self, attempt: Attempt) -> None:
        if self._options.on_lease_lost == "cancel":
            attempt.stop(Cause.LOST)
        elif not attempt.ended:
            self._log.warning(
                "job.lease_lost",
                job_id=attempt.delivery.id,
                task=attempt.delivery.task,
                reason="it goes on, as on_lease_lost says; its outcome will be refused",
            )

    # -- the end ---------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Wait no longer for running jobs."""
        self._grace.cancel()

    async def _wind_down(self, fetched: anyio.Event) -> None:
        """Claim no more; wait; give back what still runs; store every outcome."""
        deadline = monotonic() + self._options.shutdown_timeout + LAST_RESORT
        self.health.stopping()
        self.executor.stopping = True
        self._fetcher.stop()
        self._grace.deadline = anyio.current_time() + self._options.shutdown_timeout
        with self._grace:
            await fetched.wait()
            await self._none_running()
        if self._grace.cancel_called:
            deadline = min(deadline, monotonic() + LAST_RESORT)
        for attempt in self.attempts.snapshot():
            attempt.stop(Cause.SHUTDOWN)
        with anyio.move_on_after(LAST_RESORT / 2):
            await self._none_running()
        for attempt in self.attempts.snapshot():
            self.executor.give_back(attempt)
        with anyio.move_on_after(max(0.1, deadline - monotonic())):
            await self._none_held()
        if self._settler.open:
            self._log.error(
                "worker.unsettled",
                jobs=self._settler.open,
                reason="the store cannot be reached; their leases will run out and they run again",
            )

    async def _none_running(self) -> None:
        while self.attempts.running:
            await self.attempts.changed()

    async def _none_held(self) -> None:
        """Every outcome is stored, and its observers have been told."""
        while len(self.attempts):
            await self.attempts.changed()

    async def _leave(self) -> None:
        try:
            await self._broker.forget(self._worker.id)
        except Exception as exc:
            self._log.warning("worker.not_deregistered", reason=str(exc))
