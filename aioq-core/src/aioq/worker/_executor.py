"""The life of one job: decode, find, run, judge, settle, tell."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from aioq import _background
from aioq._clock import from_ms, monotonic
from aioq._context import Context
from aioq._describe import describe
from aioq._loop import current_loop, unwinds
from aioq._outcome import (
    Cancelled,
    Dead,
    Failed,
    Outcome,
    Released,
    Succeeded,
)
from aioq._pipeline import compose, overrides
from aioq._records import Settlement
from aioq._task import TaskDef
from aioq._wire import (
    Body,
    NewerEnvelope,
    Note,
    Policy,
    Undecodable,
    decode_body,
    decode_note,
    decode_policy,
)
from aioq.errors import PayloadTooLarge
from aioq.middleware import RunningJob
from aioq.middleware._instructions import instruction_in
from aioq.worker._attempts import Attempt, Attempts, Cause
from aioq.worker._innermost import CANCELLED_ITSELF, Handler, innermost_of
from aioq.worker._settler import Ending, Settler
from aioq.worker._threads import Threads
from aioq.worker._verdict import judge, to_settlement

if TYPE_CHECKING:
    from aioq._app import Aarq
    from aioq._runtime import Runtime
    from aioq._trio import TrioTask

__all__ = ["Executor"]

INTERRUPTIONS = 20
HAND_BACK_DELAY = 5.0
LONGEST_HAND_BACK_DELAY = 60.0


class Executor:
    """Runs the jobs of one worker.

    Args:
        app: finds tasks.
        runtime: broker, codec and middleware.
        worker_id: of this worker.
        attempts: told when a job has ended.
        settler: stores the verdicts.
        threads: run plain functions.
        grace: seconds for which a job that cannot run here is handed back.
        came_back: called when a job returned to the queue, due now or later.
        log: a logger.
    """

    def __init__(
        self,
        app: "Aarq",
        runtime: "Runtime",
        *,
        worker_id: str,
        attempts: Attempts,
        settler: Settler,
        threads: Threads,
        grace: float,
        came_back: Callable[[], None],
        log: Any,
    ) -> None:
        self._app = app
        self._tasks = app.tasks
        self._broker = runtime.broker
        self._background = runtime.background
        self._codec = runtime.codec
        self._layers = runtime.layers
        self._observers = [layer for layer in runtime.layers if overrides(layer, "settled")]
        self._worker_id = worker_id
        self._attempts = attempts
        self._settler = settler
        self._threads = threads
        self._grace_ms = grace * 1000
        self._came_back = came_back
        self._log = log
        self._handlers: dict[TaskDef[Any, Any], Handler] = {}
        self.state: Any = None
        """What the app's lifespan yielded."""
        self.stopping = False
        """Jobs that have not begun are given back."""
        self._given_back: list[Attempt] = []
        """Still running although released; held so that their tasks are not collected."""
        self._on_asyncio = isinstance(current_loop(), asyncio.AbstractEventLoop)
        self._main = asyncio.current_task() if self._on_asyncio else None

    async def execute(self, attempt: Attempt) -> None:
        """One attempt from its beginning to the verdict; what the store answers ends it."""
        attempt.started = True
        settling = False
        try:
            run = self._run if self._on_asyncio else self._run_on_trio
            outcome = await run(attempt)
            if attempt.ended:
                self._report("warning", "job.stale", attempt, reason="it had been given back")
            elif outcome is not None:
                settling = self._settle(attempt, outcome)
        finally:
            # one that was given back is settled, and forgotten, in its place
            if not attempt.ended:
                self._attempts.ended(attempt)
                if not settling:
                    self._attempts.forget(attempt)

    def give_back(self, attempt: Attempt) -> None:
        """For a job that does not end although it was cancelled: release it in its place."""
        if not attempt.ended:
            self._report("warning", "job.released", attempt, reason="it ignores its cancellation")
            self._attempts.ended(attempt)
            self._given_back.append(attempt)
            if not self._settle(attempt, Released("the worker stops")):
                self._attempts.forget(attempt)

    # -- decode, find, run, judge ------------------------------------------------------------------

    async def _run(self, attempt: Attempt) -> Outcome | None:
        """The verdict; None where there is none to give, because the job is no longer ours."""
        delivery = attempt.delivery
        note = decode_note(delivery.note)
        if monotonic() > attempt.trusted_until:
            return Released("its lease ran out before it began")
        if attempt.cause is not None:
            return self._cancelled(attempt)
        if self.stopping:
            return Released("the worker stops")
        try:
            policy, body = decode_policy(delivery.policy), decode_body(delivery.body)
        except Undecodable as exc:
            return self._give_up(attempt, str(exc))
        except NewerEnvelope as exc:
            return self._hand_back(attempt, note, str(exc))
        task = self._tasks.get(delivery.task)
        if task is None:
            return self._hand_back(
                attempt,
                note,
                f"the app has no task {delivery.task!r}: import its module next to the app, or "
                f"deploy it; two apps that share this store need namespaces, "
                f"Aarq(namespace='...')",
            )
        try:
            attempt.job = job = self._prepare(attempt, task, policy, body, note)
        except Exception as exc:  # a serializer's own error, or one of an argument's class
            self._report("error", "job.failed", attempt, reason=describe(exc))
            return Failed(exc)
        try:
            handler = self._handlers.get(task) or self._handler(task)
            result = await handler(job)
        except asyncio.CancelledError:
            return self._cancelled(attempt)
        except (Exception, BaseExceptionGroup) as exc:
            if unwinds(exc):
                raise
            own = instruction_in(exc) is not None or exc is job.unsaved
            if attempt.cause is not None and not own:
                # of its clean-up, or what a library made of our cancel: no failure of the job
                return self._cancelled_with(attempt, exc)
            return judge(exc, retries_left=job.retries < job.max_retries)
        return Succeeded(result)

    async def _run_on_trio(self, attempt: Attempt) -> Outcome | None:
        """``_run`` in a scope of its own: there no cancel ends in an ``except``."""
        task = cast("TrioTask", attempt.task)
        try:
            with task.stoppable():
                return await self._run(attempt)
        except BaseExceptionGroup as exc:
            if unwinds(exc):
                raise
            # the errors of a group whose cancels were ours
            return self._cancelled_with(attempt, exc)
        return self._cancelled(attempt)

    def _prepare(
        self, attempt: Attempt, task: TaskDef[Any, Any], policy: Policy, body: Body, note: Note
    ) -> RunningJob:
        delivery = attempt.delivery
        args, kwargs = task.signature.unpack(body, self._codec)
        ctx: Context[Any] = Context(
            worker_id=self._worker_id,
            job_id=delivery.id,
            broker=self._broker,
            app=self._app,
            task_name=delivery.task,
            queue=delivery.queue,
            attempt=delivery.retries + 1,
            retries=delivery.retries,
            enqueued_at=from_ms(delivery.enqueued_ms),
            headers=body.headers,
            state=self.state,
        )
        return RunningJob(
            delivery,
            policy=policy,
            options=task.task_options,
            note=note,
            headers=body.headers,
            args=args,
            kwargs=kwargs,
            ctx=ctx,
            worker_id=self._worker_id,
            pack=self._pack_result,
        )

    def _handler(self, task: TaskDef[Any, Any]) -> Handler:
        """The task in all its layers, put together at its first job."""
        innermost = innermost_of(task, self._threads)
        handler = self._handlers[task] = compose(self._layers, "around_call", innermost)
        return handler

    def _cancelled_with(self, attempt: Attempt, error: BaseException) -> Outcome | None:
        self._report("warning", "job.cancel_error", attempt, reason=describe(error), exc_info=error)
        return self._cancelled(attempt)

    def _cancelled(self, attempt: Attempt) -> Outcome | None:
        match attempt.cause:
            case Cause.CANCEL:
                self._report("info", "job.cancelled", attempt)
                return Cancelled()
            case Cause.LOST:
                self._report("warning", "job.lease_lost", attempt, reason="its run was cancelled")
                return None
            case None if not self._loop_ends():
                # no retry: only out here it is certain that no layer used this cancel for itself
                error = RuntimeError(CANCELLED_ITSELF)
                self._report("error", "job.failed", attempt, reason=str(error))
                return Failed(error)
            case _:
                reason = (attempt.cause or Cause.SHUTDOWN).value
                self._report("info", "job.released", attempt, reason=reason)
                return Released(reason)

    def _loop_ends(self) -> bool:
        """Whether every task is being cancelled, as ``asyncio.run`` does at its end."""
        return self._main is not None and (self._main.done() or self._main.cancelling() > 0)

    def _hand_back(self, attempt: Attempt, note: Note, reason: str) -> Outcome:
        """For a newer worker, at first; dead when none has come within the grace period."""
        since = note.unknown_since or attempt.delivery.claimed_ms
        waited = attempt.delivery.claimed_ms - since
        if waited >= self._grace_ms:
            return self._give_up(
                attempt,
                f"{reason} (no worker could run it for {waited // 1000} s)",
            )
        delay = min(max(HAND_BACK_DELAY, waited / 2000), LONGEST_HAND_BACK_DELAY)
        delay = min(delay, max(0.1, (self._grace_ms - waited) / 1000))
        if note.unknown_since is None:
            self._report("warning", "job.handed_back", attempt, reason=reason, delay=delay)
        return Released(reason, delay)

    def _give_up(self, attempt: Attempt, reason: str) -> Outcome:
        self._report("error", "job.dead", attempt, reason=reason)
        return Dead(reason)

    # -- settle, tell ------------------------------------------------------------------------------

    def _settle(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Have the verdict stored; False where no store is asked any more."""
        if self._settler.given_up:
            return False
        settlement, outcome = self._to_settlement(attempt, outcome)
        self._settler.settle(attempt, settlement, partial(self._answered, outcome))
        return True

    def _answered(self, outcome: Outcome, ending: Ending) -> None:
        """The store has said what became of the verdict: tell the observers, forget the attempt."""
        attempt = ending.attempt
        self._attempts.tell(attempt)
        self._send_back_if_adopted(ending)
        if ending.answer == "stale":
            self._report("warning", "job.stale", attempt, outcome=type(outcome).__name__)
        else:
            if ending.refused is not None:
                outcome = Failed(ending.refused)
            elif ending.settlement.kind in ("retry", "snooze", "release"):
                self._came_back()
            if self._observers and attempt.job is not None:
                attempt.task = _background.spawn(
                    self._tell(attempt, attempt.job, outcome), attempt.context
                )
                return
        self._attempts.forget(attempt)

    def _send_back_if_adopted(self, ending: Ending) -> None:
        """The job may have gone back to the queue, and been handed to us anew before we heard so:
        that delivery was taken for the old one and never begun."""
        attempt = ending.attempt
        if attempt.token == ending.token:
            return
        again = Attempt(attempt.delivery, attempt.trusted_until, attempt.context)
        self._attempts.hold(again)
        self._settler.settle(again, Settlement(again.token, "release"), self._sent_back)

    def _sent_back(self, ending: Ending) -> None:
        self._attempts.forget(ending.attempt)
        self._send_back_if_adopted(ending)
        self._came_back()

    def _to_settlement(self, attempt: Attempt, outcome: Outcome) -> tuple[Settlement, Outcome]:
        """What to tell the store; a verdict that has no form there makes the job fail."""
        try:
            return self._settlement_of(attempt, outcome)
        except Exception as exc:  # a result, a delay, or what a layer left behind
            self._report("error", "job.failed", attempt, reason=describe(exc))
            outcome, note = Failed(exc), decode_note(attempt.delivery.note)
            return to_settlement(attempt.token, outcome, note, {}), outcome

    def _settlement_of(self, attempt: Attempt, outcome: Outcome) -> tuple[Settlement, Outcome]:
        job = attempt.job
        match outcome:
            case Succeeded() if job is not None and job.has_result:
                return Settlement(
                    attempt.token,
                    "completed",
                    result=self._packed(job),
                    content_type=self._codec.content_type,
                    result_ttl_ms=job.policy.result_ttl * 1000,
                ), outcome
            case Succeeded():
                return Settlement(attempt.token, "completed"), outcome
            case _:
                note = decode_note(attempt.delivery.note)
        match outcome:
            case Released(delay=delay) if job is None:
                if delay and note.unknown_since is None:
                    note = msgspec.structs.replace(note, unknown_since=attempt.delivery.claimed_ms)
            case Released():
                if note.interruptions >= INTERRUPTIONS:
                    outcome = self._give_up(
                        attempt, f"interrupted by {INTERRUPTIONS} stopping workers"
                    )
                note = msgspec.structs.replace(
                    note, interruptions=note.interruptions + 1, unknown_since=None
                )
            case _:
                # it ran to an end of its own: it is known here, and not always cut short
                note = msgspec.structs.replace(note, interruptions=0, unknown_since=None)
        carry = dict(job.carry) if job is not None and job.carry else {}
        return to_settlement(attempt.token, outcome, note, carry), outcome

    def _packed(self, job: RunningJob) -> bytes:
        if job.packed is not None and job.packed[0] is job.kept:
            return job.packed[1]
        return self._pack_result(job.task_name, job.kept)

    def _pack_result(self, task_name: str, value: object) -> bytes:
        data = self._app.get_task(task_name).signature.pack_result(value, self._codec)
        if len(data) > self._broker.max_payload:
            raise PayloadTooLarge(
                f"{task_name}: the result takes {len(data):,} bytes, the limit is "
                f"{self._broker.max_payload:,}: store it elsewhere and return a reference, or "
                f"raise the broker's max_payload"
            )
        return data

    async def _tell(self, attempt: Attempt, job: RunningJob, outcome: Outcome) -> None:
        try:
            for observer in self._observers:
                try:
                    await observer.settled(job, outcome)
                except Exception as exc:
                    self._log.error(
                        "middleware.error",
                        middleware=repr(observer),
                        job_id=job.id,
                        reason=describe(exc),
                        exc_info=True,
                    )
        finally:
            self._attempts.forget(attempt)

    def _report(self, level: str, event: str, attempt: Attempt, **fields: Any) -> None:
        delivery = attempt.delivery
        getattr(self._log, level)(
            event,
            job_id=delivery.id,
            task=delivery.task,
            queue=delivery.queue,
            attempt=delivery.retries + 1,
            **fields,
        )
