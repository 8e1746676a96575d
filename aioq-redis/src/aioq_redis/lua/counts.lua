-- keys: j r q s t o dr dc df dx dd p
-- Returns ready, quarantined, scheduled, of those retrying, running, completed, failed, cancelled,
-- dead, whether it is paused, and for how many ms the oldest due job has waited (-1: none is due).
local function kept(index) return redis.call('ZCOUNT', index, '(' .. now, '+inf') end
local oldest = math.huge
for _, place in ipairs({r, q}) do
    local heads = redis.call('ZRANGE', place, 0, 15, 'WITHSCORES')
    for i = 1, #heads, 2 do
        local value = redis.call('HGET', j, heads[i])
        if value then
            oldest = math.min(oldest, heads[i + 1] + priority_of(sound(value, now)) * BOOST)
        end
    end
end
local head = redis.call('ZRANGE', s, 0, 0, 'WITHSCORES')
if head[2] then oldest = math.min(oldest, tonumber(head[2])) end
return {
    redis.call('ZCARD', r), redis.call('ZCARD', q), redis.call('ZCARD', s), redis.call('SCARD', t),
    redis.call('HLEN', o), kept(dr) + kept(dc), kept(df), kept(dx), kept(dd),
    redis.call('HGET', p, 'paused') == '1' and 1 or 0,
    oldest <= now and now - oldest or -1,
}
