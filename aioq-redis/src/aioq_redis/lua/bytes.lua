-- The layouts of docs/redis.md; _packing.py has the same in Python.
-- value: enqueued d8, priority i4, size of the task's name I2, of the policy I4, both, the body
-- lease: id 16, number I4, worker 16, started d8, due d8, enqueued d8, priority i4, flags 1
-- side:  ended 1, retries I4, crashes I4, due d8, size of the note i4, lease, note
-- ended: 0 by a rescue, 1 by its worker, 2 by a rescue before the job was requeued
local LEASE = 65
local SIDE = 86

-- Where the body begins; nil when the bytes are no value.
local function body_at(value)
    if #value < 18 then return nil end
    local task, policy = struct.unpack('>I2I4', value, 13)
    local at = 19 + task + policy
    if at > #value + 1 then return nil end
    return at
end

-- Bytes that somebody else put here become the body of a task without a name: a worker will tell.
local function sound(value, now)
    if body_at(value) then return value end
    return struct.pack('>di4I2I4', now, 0, 0, 0) .. value
end

local function priority_of(value)
    return (struct.unpack('>i4', value, 9))
end

local function side_of(ended, retries, crashes, due, note, lease)
    local head = struct.pack('>BI4I4di4', ended, retries, crashes, due, note and #note or -1)
    return head .. lease .. (note or '')
end

-- ended, retries, crashes, due, note, lease
local function read_side(side)
    if not side or #side < SIDE then return nil end
    local ended, retries, crashes, due, size = struct.unpack('>BI4I4di4', side)
    local note = size >= 0 and string.sub(side, SIDE + 1, SIDE + size) or nil
    return ended, retries, crashes, due, note, string.sub(side, 22, SIDE)
end
