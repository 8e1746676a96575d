-- keys: j r q s t l o x w c k dr dc df dx dd watch
-- ARGV: ms for which a record is kept, channel for the workers, ids
-- Returns a letter per id: cancelled, running (it was asked to stop), finished, unknown.
local keep, channel = tonumber(ARGV[1]), ARGV[2]
local answers, seen = {}, {}
for i = 3, #ARGV - EXTRA do
    local id = ARGV[i]
    local value = redis.call('HGET', j, id)
    local owner = value and redis.call('HGET', o, id)
    if seen[id] then
        answers[#answers + 1] = 'f'
    elseif owner then
        redis.call('HSET', c, id, 1)
        redis.call('PUBLISH', channel, owner)
        answers[#answers + 1] = 'r'
    elseif value then
        value = sound(value, now)
        local side = redis.call('HGET', x, id)
        if not read_side(side) then
            local due = redis.call('ZSCORE', s, id)
            if not due then
                due = (redis.call('ZSCORE', r, id) or now) + priority_of(value) * BOOST
            end
            local never = id .. string.rep('\0', 28) .. struct.pack('>d', due)
                .. string.sub(value, 1, 12) .. '\0'
            side = side_of(0, 0, 0, tonumber(due), nil, never)
        end
        finish(id, 'x', value, side, now + keep)
        left_waiting[#left_waiting + 1] = id
        seen[id] = true
        answers[#answers + 1] = 'c'
    else
        answers[#answers + 1] = live_record(k, id) and 'f' or 'u'
    end
end
write()
return table.concat(answers)
