-- Moves out of running (or waiting) are gathered here and written at the end: first to the new
-- places, then out of the old ones, each with one command for all jobs.
local to_records, to_sides, to_ready, to_quarantine, to_scheduled, to_retries = {}, {}, {}, {}, {}, {}
local to_index = {[dr] = {}, [dc] = {}, [df] = {}, [dx] = {}, [dd] = {}}
local finished, left_leases, left_owners, left_sides, left_waiting = {}, {}, {}, {}, {}
local wake, soonest = false, math.huge

-- `content` is nil without a result, else its type ('' when there is none).
local function finish(id, status, value, side, delete_at, result, content)
    local size = -1
    if result then size = content and #content or -2 end
    if status == 'c' then value = string.sub(value, 1, body_at(value) - 1) end
    to_records[#to_records + 1] = id
    to_records[#to_records + 1] = status .. struct.pack('>di4', now, size) .. side .. (content or '') .. value
    local index = to_index[result and dr or INDEX[status]]
    index[#index + 1] = delete_at
    index[#index + 1] = id
    finished[#finished + 1] = id
end

-- Back to where a job that is not running belongs.
local function give_back(id, priority, due, retries, crashes, side)
    to_sides[#to_sides + 1] = id
    to_sides[#to_sides + 1] = side
    if due > now then
        to_scheduled[#to_scheduled + 1] = due
        to_scheduled[#to_scheduled + 1] = id
        if retries > 0 then to_retries[#to_retries + 1] = id end
        soonest = math.min(soonest, due)
    else
        local into = crashes >= 2 and to_quarantine or to_ready
        into[#into + 1] = due - priority * BOOST
        into[#into + 1] = id
        wake = true
    end
end

local function leave_running(id, lease)
    left_leases[#left_leases + 1] = lease
    left_owners[#left_owners + 1] = id
end

-- Whoever waits for one of these jobs hears that it has finished, or is gone.
local function tell(ids)
    if #ids == 0 or redis.call('HLEN', watch) == 0 then return end
    local told, channels = {}, {}
    for first = 1, #ids, 4000 do
        local last = math.min(first + 3999, #ids)
        local waiting = redis.call('HMGET', watch, unpack(ids, first, last))
        for i, names in ipairs(waiting) do
            if names then
                local id = ids[first + i - 1]
                told[#told + 1] = id
                for channel in string.gmatch(names, '[^\n]+') do
                    channels[channel] = (channels[channel] or '') .. id
                end
            end
        end
    end
    for channel, message in pairs(channels) do redis.call('PUBLISH', channel, message) end
    many('HDEL', watch, told)
end

local function write()
    if soonest < math.huge and not wake then
        local head = redis.call('ZRANGE', s, 0, 0, 'WITHSCORES')
        wake = not head[2] or soonest < tonumber(head[2])
    end
    many('HSET', k, to_records)
    for index, entries in pairs(to_index) do many('ZADD', index, entries) end
    many('HSET', x, to_sides)
    many('ZADD', s, to_scheduled)
    many('SADD', t, to_retries)
    many('ZADD', q, to_quarantine)
    many('ZADD', r, to_ready)
    many('ZREM', r, left_waiting)
    many('ZREM', q, left_waiting)
    many('ZREM', s, left_waiting)
    many('SREM', t, left_waiting)
    many('ZREM', l, left_leases)
    many('HDEL', o, left_owners)
    if #left_owners > 0 and redis.call('HLEN', c) > 0 then many('HDEL', c, left_owners) end
    many('HDEL', j, finished)
    if #finished > 0 and redis.call('HLEN', x) > 0 then many('HDEL', x, finished) end
    if wake then redis.call('ZADD', w, 0, 'r') end
    tell(finished)
end

-- No more than `cap` records of completed jobs without a result stay, the newest.
local function cap_completed(cap)
    local excess = redis.call('ZCARD', dc) - cap
    if excess <= 0 then return end
    local ids = redis.call('ZRANGE', dc, 0, math.min(excess, #finished + 100) - 1)
    many('HDEL', k, ids)
    redis.call('ZREMRANGEBYRANK', dc, 0, #ids - 1)
end
