-- Due jobs from scheduled to where they are handed out, `limit` at most. Returns how many.
local function promote(j, r, q, s, t, x, w, now, limit)
    local due = redis.call('ZRANGEBYSCORE', s, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
    if #due == 0 then return 0 end
    local ids = {}
    for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
    local values = redis.call('HMGET', j, unpack(ids))
    local sides = redis.call('HLEN', x) > 0 and redis.call('HMGET', x, unpack(ids)) or {}
    local ready, quarantine = {}, {}
    for i, id in ipairs(ids) do
        local value = values[i]
        if value then
            local _, _, crashes = read_side(sides[i])
            local into = (crashes or 0) >= 2 and quarantine or ready
            into[#into + 1] = due[2 * i] - priority_of(sound(value, now)) * BOOST
            into[#into + 1] = id
        end
    end
    many('ZADD', r, ready)
    many('ZADD', q, quarantine)
    many('ZREM', s, ids)
    many('SREM', t, ids)
    redis.call('ZADD', w, 0, 'r')
    return #ids
end
