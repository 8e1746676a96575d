"""The floor for the Redis broker: claim and acknowledge, and nothing else.

One connection, batches of 100, one Lua script to claim and one to acknowledge, the same kind of
record kept. No retries, delays, quarantine, results, wake-ups; the token is compared.
"""

import hashlib
import time
import uuid
from typing import Any

import hiredis
import redis.asyncio

BATCH = 100
LEASE_MS = 30_000

ENQUEUE = """#!lua
local j, r = KEYS[1], KEYS[2]
local now = redis.call('TIME')
local score = now[1] * 1000 + math.floor(now[2] / 1000)
local scores = {}
for i = 1, #ARGV, 2 do
    scores[i] = score
    scores[i + 1] = ARGV[i]
end
redis.call('HSET', j, unpack(ARGV))
redis.call('ZADD', r, unpack(scores))
return score
"""
CLAIM = """#!lua
local j, r, l = KEYS[1], KEYS[2], KEYS[3]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local ids = redis.call('ZRANGE', r, 0, ARGV[1] - 1)
if #ids == 0 then return {} end
local bodies = redis.call('HMGET', j, unpack(ids))
local leases, reply = {}, {}
for i, id in ipairs(ids) do
    local token = id .. ARGV[2]
    leases[#leases + 1] = now + ARGV[3]
    leases[#leases + 1] = token
    reply[#reply + 1] = token
    reply[#reply + 1] = bodies[i]
end
redis.call('ZADD', l, unpack(leases))
redis.call('ZREMRANGEBYRANK', r, 0, #ids - 1)
return reply
"""
ACK = """#!lua
local j, l, k, d = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local owned = redis.call('ZMSCORE', l, unpack(ARGV))
local ids, tokens, records, index = {}, {}, {}, {}
for i, token in ipairs(ARGV) do
    if owned[i] then
        local id = string.sub(token, 1, 16)
        ids[#ids + 1] = id
        tokens[#tokens + 1] = token
        index[#index + 1] = now
        index[#index + 1] = id
    end
end
local bodies = redis.call('HMGET', j, unpack(ids))
for i, id in ipairs(ids) do
    records[#records + 1] = id
    records[#records + 1] = 'c' .. now .. tokens[i] .. string.sub(bodies[i], 1, 100)
end
redis.call('HSET', k, unpack(records))
redis.call('ZADD', d, unpack(index))
redis.call('ZREM', l, unpack(tokens))
redis.call('HDEL', j, unpack(ids))
local excess = redis.call('ZCARD', d) - 10000
if excess > 0 then
    local old = redis.call('ZRANGE', d, 0, excess - 1)
    redis.call('HDEL', k, unpack(old))
    redis.call('ZREMRANGEBYRANK', d, 0, #old - 1)
end
return #ids
"""


class RawQueue:
    """The queue on one connection of redis-py."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)
        self._keys = {name: f"raw:{{q}}:{name}".encode() for name in "jrlkd"}

    async def open(self) -> None:
        self._connection = await self._client.connection_pool.get_connection()
        for text in (ENQUEUE, CLAIM, ACK):
            await self._client.script_load(text)

    async def close(self) -> None:
        await self._client.delete(*self._keys.values())
        await self._client.connection_pool.release(self._connection)
        await self._client.aclose()

    async def enqueue(self, jobs: list[tuple[bytes, bytes]]) -> None:
        await self._run(ENQUEUE, "jr", [part for job in jobs for part in job])

    async def enqueue_by_client(self, job_id: bytes, body: bytes) -> None:
        """One job by redis-py's own ``evalsha``, as a program would call it."""
        keys = (self._keys["j"], self._keys["r"])
        await self._client.evalsha(_digest(ENQUEUE), 2, *keys, job_id, body)

    async def drain(self) -> tuple[int, float]:
        """Claim and acknowledge every job; how many, and the seconds it took."""
        done, worker = 0, uuid.uuid4().bytes
        started = time.perf_counter()
        while taken := await self._run(CLAIM, "jrl", [BATCH, worker, LEASE_MS]):
            done += await self._run(ACK, "jlkd", taken[::2])
        return done, time.perf_counter() - started

    async def _run(self, script: str, keys: str, args: list[Any]) -> Any:
        names = [self._keys[name] for name in keys]
        command = hiredis.pack_command((b"EVALSHA", _digest(script), len(names), *names, *args))
        await self._connection.send_packed_command(command)
        return await self._connection.read_response()


_digests: dict[str, str] = {}


def _digest(script: str) -> str:
    digest = _digests.get(script)
    if digest is None:
        digest = _digests[script] = hashlib.sha1(script.encode()).hexdigest()
    return digest
