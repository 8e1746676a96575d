"""Every name this package emits: messaging conventions 1.44, and ``aioq.`` for what they lack."""

from typing import Final

SCOPE: Final = "aioq_otel"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM: Final = "aioq"

# -- attributes of the conventions

MESSAGING_SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
CLIENT_ID: Final = "messaging.client.id"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
FUNCTION: Final = "code.function.name"
OVERFLOW: Final = "otel.metric.overflow"

# -- attributes of aioq

JOB_NAME: Final = "aioq.job.name"
ATTEMPT: Final = "aioq.job.attempt"
MAX_ATTEMPTS: Final = "aioq.job.max_attempts"
OUTCOME: Final = "aioq.job.outcome"
WAIT_TIME: Final = "aioq.job.wait_time"
TRIGGER: Final = "aioq.job.trigger"
DELAY: Final = "aioq.job.delay"
PRIORITY: Final = "aioq.job.priority"
DEDUPLICATED: Final = "aioq.job.deduplicated"
CRASHES: Final = "aioq.job.crashes"
STATE: Final = "aioq.job.state"
LINK_TYPE: Final = "aioq.link.type"
LINKS_DROPPED: Final = "aioq.links.dropped"

# -- metrics

SENT: Final = "messaging.client.sent.messages"
OPERATION_DURATION: Final = "messaging.client.operation.duration"
CONSUMED: Final = "messaging.client.consumed.messages"
PROCESS_DURATION: Final = "messaging.process.duration"
JOB_WAIT_TIME: Final = "aioq.job.wait_time"
QUEUE_JOBS: Final = "aioq.queue.jobs"
OLDEST_AGE: Final = "aioq.queue.oldest_job.age"
ACTIVE_JOBS: Final = "aioq.worker.active_jobs"
CONCURRENCY: Final = "aioq.worker.concurrency"
LOST: Final = "aioq.job.lost"
