-- keys: j r s k dr dc df dx dd a w
-- ARGV: producer, number, count, plan ('' or one of '>Bdi4' per job: mode, ms, priority), then an id
-- and a value without its first 8 bytes for each job.
-- Returns the time and a letter per job: new, exists; or only 'a' when the batch is known.
local producer, number, count, plan = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local seen = redis.call('HGET', a, producer)
if seen and #seen == 16 and number <= (struct.unpack('>d', seen)) then
    -- Used again; and a write, without which WAIT would not wait for the first copy.
    redis.call('HSET', a, producer, string.sub(seen, 1, 8) .. struct.pack('>d', now))
    return {now, 'a'}
end

local ids = {}
for i = 1, count do ids[i] = ARGV[3 + 2 * i] end
local live = redis.call('HMGET', j, unpack(ids))
local known = redis.call('HMGET', k, unpack(ids))
for i, id in ipairs(ids) do
    if known[i] then
        -- A record past its time is absent, also when nobody has trimmed it yet.
        local kept = false
        for _, index in ipairs({dr, dc, df, dx, dd}) do
            local at = redis.call('ZSCORE', index, id)
            kept = kept or at and tonumber(at) > now
        end
        if not kept then
            for _, index in ipairs({dr, dc, df, dx, dd}) do redis.call('ZREM', index, id) end
            redis.call('HDEL', k, id)
            known[i] = false
        end
    end
end

local enqueued = struct.pack('>d', now)
local answers, values, ready, scheduled, taken = {}, {}, {}, {}, {}
local soonest = math.huge
for i, id in ipairs(ids) do
    if live[i] or known[i] or taken[id] then
        answers[i] = 'e'
    else
        answers[i] = 'n'
        taken[id] = true
        local due, priority = now, 0
        if plan ~= '' then
            local mode, ms
            mode, ms, priority = struct.unpack('>Bdi4', plan, 13 * i - 12)
            if mode == 1 then due = now + ms elseif mode == 2 then due = math.max(ms, now) end
        end
        values[#values + 1] = id
        values[#values + 1] = enqueued .. ARGV[4 + 2 * i]
        if due > now then
            soonest = math.min(soonest, due)
            scheduled[#scheduled + 1] = due
            scheduled[#scheduled + 1] = id
        else
            ready[#ready + 1] = due - priority * BOOST
            ready[#ready + 1] = id
        end
    end
end

local wake = #ready > 0
if #scheduled > 0 and not wake then
    local head = redis.call('ZRANGE', s, 0, 0, 'WITHSCORES')
    wake = not head[2] or soonest < tonumber(head[2])
end
many('HSET', j, values)
many('ZADD', r, ready)
many('ZADD', s, scheduled)
redis.call('HSET', a, producer, struct.pack('>dd', number, now))
if wake then redis.call('ZADD', w, 0, 'r') end
return {now, table.concat(answers)}
