-- keys: j r q s o x c k dr dc df dx dd
-- ARGV: ids
-- Returns for each id false, {record}, or {value, lease, side, place, due, whether to stop}.
local found = {}
for i = 1, #ARGV - EXTRA do
    local id = ARGV[i]
    local value = redis.call('HGET', j, id)
    if value then
        value = sound(value, now)
        local lease = redis.call('HGET', o, id)
        local side = redis.call('HGET', x, id)
        local place, due = 'l', nil
        if not lease then
            due = redis.call('ZSCORE', s, id)
            place = 's'
            if not due then
                due = redis.call('ZSCORE', q, id)
                place = due and 'q' or 'r'
                due = (due or redis.call('ZSCORE', r, id) or now) + priority_of(value) * BOOST
            end
            due = tonumber(due)
        end
        local stop = lease and redis.call('HEXISTS', c, id) == 1
        found[i] = {value, lease or '', side or '', place, due or 0, stop and 1 or 0}
    else
        local record = live_record(k, id)
        found[i] = record and {record} or false
    end
end
return found
