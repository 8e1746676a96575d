"""The one thread of this process that writes: group commit under the lock between processes."""

import contextlib
from collections.abc import Callable, Sequence

from aioq.errors import BrokerError
from aioq_sqlite import _records as records
from aioq_sqlite._bells import Bells
from aioq_sqlite._calls import Answer, Call, CallThread, deliver
from aioq_sqlite._errors import translate
from aioq_sqlite._reader import Reader
from aioq_sqlite._store import WAL_LIMIT, Store
from aioq_sqlite._tx import Tx

__all__ = ["Writer"]

IDLE_AFTER = 1.0
"""Seconds without a call after which the log is moved into the database, if that is worth it."""
WORTH_IT = 256 * 1024


class Writer(CallThread):
    """Applies all calls that wait in one transaction; a call that fails takes only itself back."""

    def __init__(
        self, store: Store, reader: Reader, bells: Bells, clock: Callable[[], int]
    ) -> None:
        super().__init__("aioq-sqlite-writer")
        self._store = store
        self._reader = reader
        self._bells = bells
        self._clock = clock
        self._where = str(store.path)
        self._log_grows = False
        self._checkpoint_at = WAL_LIMIT

    def _begin(self) -> None:
        try:
            self._store.open()
        except Exception as exc:
            self._reader.fail(exc)
            raise
        self._reader.start()

    def _end(self) -> None:
        self._reader.stop()
        self._reader.join()
        self._store.close()

    def _serve(self) -> None:
        calls = self._take(IDLE_AFTER if self._log_grows else None)
        if calls:
            self._commit(calls)
        elif not self._stopping:
            self._tidy()

    def _commit(self, calls: Sequence[Call]) -> None:
        con = self._store.writing
        tx = Tx(con, 0)
        try:
            with self._store.lock:
                calls = [call for call in calls if call.begin()]
                if not calls:
                    return
                self._store.check()
                tx.now = self._clock()
                before = con.total_changes
                try:
                    con.execute("begin immediate")
                    answers = self._apply(tx, calls)
                    con.execute("commit")
                except BaseException:
                    with contextlib.suppress(Exception):
                        con.rollback()
                    raise
                self._log_grows = self._log_grows or con.total_changes != before
                # Whoever commits next sees these marks, because it waits for the lock.
                self._bells.mark(tx.rooms)
                if self._log_grows and self._store.wal_size() > self._checkpoint_at:
                    self._checkpoint()
        except Exception as exc:
            deliver([Answer(call, None, translate(exc, self._where)) for call in calls])
            return
        deliver(answers)
        for worker, tokens in tx.cancels.items():
            self._bells.tell(worker, tokens)
        if tx.work:
            self._bells.ring(tx.work)

    def _apply(self, tx: Tx, calls: Sequence[Call]) -> list[Answer]:
        if len(calls) == 1:
            value = calls[0].operation(tx)
            records.tally(tx)
            return [Answer(calls[0], value)]
        answers: list[Answer] = []
        for call in calls:
            tx.con.execute("savepoint item")
            try:
                answer = Answer(call, call.operation(tx))
                records.tally(tx)
            except Exception as exc:
                if not tx.con.in_transaction:
                    # A full or failing disk: SQLite has taken everything back.
                    raise
                tx.con.execute("rollback to item")
                tx.records_from = None
                answer = Answer(call, None, translate(exc, self._where))
            tx.con.execute("release item")
            answers.append(answer)
        return answers

    def _tidy(self) -> None:
        """Nothing to do for a while: a good time to empty a log of some size."""
        self._log_grows = False
        if self._store.wal_size() >= WORTH_IT:
            with contextlib.suppress(OSError, BrokerError), self._store.lock:
                self._store.check()
                self._checkpoint()

    def _checkpoint(self) -> None:
        self._store.checkpoint()
        # Where a long query keeps the log from being emptied, try again when it has grown.
        self._checkpoint_at = max(WAL_LIMIT, self._store.wal_size() + WAL_LIMIT // 4)
