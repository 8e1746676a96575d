"""All that a plugin author needs: the hooks, the spec records and the base classes."""

from aioq._broker import BaseBroker, JobPage
from aioq._contract import LeaseClient
from aioq._fence import Fence
from aioq._loop import Loop, call_soon, current_loop
from aioq._namespace import DEFAULT_NAMESPACE
from aioq._records import (
    FINISHED,
    MAX_BATCH,
    PRIORITY_HEAD_START_MS,
    STATUSES,
    Added,
    CancelAnswer,
    Capabilities,
    Claimed,
    Delivery,
    Filter,
    Hint,
    JobInfo,
    NewJob,
    Page,
    QueueStats,
    Renewed,
    Settled,
    SettleKind,
    Settlement,
    Status,
    Token,
    Upkeep,
    WorkerInfo,
)
from aioq._serializer import Serializer
from aioq.plugins._hookspecs import BrokerSpec, SerializerSpec, hookimpl

__all__ = [
    "DEFAULT_NAMESPACE",
    "FINISHED",
    "MAX_BATCH",
    "PRIORITY_HEAD_START_MS",
    "STATUSES",
    "Added",
    "BaseBroker",
    "BrokerSpec",
    "CancelAnswer",
    "Capabilities",
    "Claimed",
    "Delivery",
    "Fence",
    "Filter",
    "Hint",
    "JobInfo",
    "JobPage",
    "LeaseClient",
    "Loop",
    "NewJob",
    "Page",
    "QueueStats",
    "Renewed",
    "Serializer",
    "SerializerSpec",
    "SettleKind",
    "Settled",
    "Settlement",
    "Status",
    "Token",
    "Upkeep",
    "WorkerInfo",
    "call_soon",
    "current_loop",
    "hookimpl",
]
