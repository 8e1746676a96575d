-- keys: j r q s t l o x w c k dr dc df dx dd watch a p
-- ARGV: lease in ms, most to promote, to rescue and to trim, crashes that are the end, ms for which
-- records of failed, cancelled and dead jobs are kept, how many of them, how many completed ones.
-- Returns how many were promoted, rescued, died, trimmed, and whether a budget was used up.
local lease_ms = tonumber(ARGV[1])
local most_promoted, most_rescued, most_trimmed = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_crashes, keep_other = tonumber(ARGV[5]), tonumber(ARGV[6])
local cap_other, cap = tonumber(ARGV[7]), tonumber(ARGV[8])
local HOUR = 3600000
touch(p, lease_ms)

local promoted = 0
if most_promoted > 0 then
    promoted = promote(j, r, q, s, t, x, w, now, most_promoted)
end

local rescued, died = 0, 0
local hold = redis.call('HGET', p, 'no_rescue_before')
if most_rescued > 0 and not (hold and now < tonumber(hold)) then
    local lapsed = redis.call('ZRANGEBYSCORE', l, '-inf', '(' .. now, 'LIMIT', 0, most_rescued)
    for _, lease in ipairs(lapsed) do
        local id = string.sub(lease, 1, 16)
        local value = #lease == LEASE and redis.call('HGET', j, id)
        leave_running(id, lease)
        if value then
            value = sound(value, now)
            local _, retries, crashes, _, note = read_side(redis.call('HGET', x, id))
            local due, priority = struct.unpack('>d', lease, 45), priority_of(value)
            retries, crashes = retries or 0, (crashes or 0) + 1
            rescued = rescued + 1
            local status = nil
            if redis.call('HEXISTS', c, id) == 1 then
                status = 'x'
            elseif string.byte(lease, LEASE) == 1 and crashes >= max_crashes then
                status = 'd'
                died = died + 1
            elseif crashes >= 3 then
                due = now + (crashes == 3 and 10000 or 60000)
            end
            local kept = side_of(0, retries, crashes, due, note, lease)
            if status then
                finish(id, status, value, kept, now + keep_other)
            else
                give_back(id, priority, due, retries, crashes, kept)
            end
        end
    end
    write()
end

local trimmed = 0
local function drop(index, ids)
    many('HDEL', k, ids)
    many('ZREM', index, ids)
    trimmed = trimmed + #ids
end
for _, index in ipairs({dr, dc, df, dx, dd}) do
    if trimmed < most_trimmed then
        drop(index, redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, most_trimmed - trimmed))
    end
end
if trimmed < most_trimmed then
    local excess = math.min(redis.call('ZCARD', dc) - cap, most_trimmed - trimmed)
    if excess > 0 then drop(dc, redis.call('ZRANGE', dc, 0, excess - 1)) end
end
local others = {df, dx, dd}
local excess = -cap_other
for _, index in ipairs(others) do excess = excess + redis.call('ZCARD', index) end
while excess > 0 and trimmed < most_trimmed do
    local oldest, at = nil, math.huge
    for _, index in ipairs(others) do
        local head = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
        if head[2] and tonumber(head[2]) < at then oldest, at = index, tonumber(head[2]) end
    end
    drop(oldest, redis.call('ZRANGE', oldest, 0, 0))
    excess = excess - 1
end

-- Producers that have been silent for an hour, a slice at a time.
if redis.call('HLEN', a) > 0 then
    local slice = redis.call('HSCAN', a, redis.call('HGET', p, 'producers') or '0', 'COUNT', 100)
    local silent = {}
    for i = 1, #slice[2], 2 do
        local entry = slice[2][i + 1]
        if #entry ~= 16 or now - struct.unpack('>d', entry, 9) > HOUR then
            silent[#silent + 1] = slice[2][i]
        end
    end
    many('HDEL', a, silent)
    redis.call('HSET', p, 'producers', slice[1])
end

-- A live job that stands nowhere was orphaned by somebody who changed the keys by hand.
local places = redis.call('ZCARD', r) + redis.call('ZCARD', q) + redis.call('ZCARD', s) + redis.call('HLEN', o)
if redis.call('HLEN', j) > places then
    local slice = redis.call('HSCAN', j, redis.call('HGET', p, 'orphans') or '0', 'COUNT', 100)
    for i = 1, #slice[2], 2 do
        local id = slice[2][i]
        if #id == 16 and not redis.call('ZSCORE', r, id) and not redis.call('ZSCORE', q, id)
            and not redis.call('ZSCORE', s, id) and redis.call('HEXISTS', o, id) == 0 then
            local _, _, crashes, due = read_side(redis.call('HGET', x, id))
            due = math.min(due or now, now)
            redis.call('ZADD', (crashes or 0) >= 2 and q or r, due, id)
            redis.call('ZADD', w, 0, 'r')
        end
    end
    redis.call('HSET', p, 'orphans', slice[1])
end

local more = most_promoted > 0 and promoted >= most_promoted
    or most_rescued > 0 and rescued >= most_rescued
    or most_trimmed > 0 and trimmed >= most_trimmed
return {promoted, rescued, died, trimmed, more and 1 or 0}
