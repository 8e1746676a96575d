-- keys: j r x w k dr dc df dx dd p
-- ARGV: ids
-- Returns a letter per id: yes, no.
local answers, woken = {}, false
for i = 1, #ARGV - EXTRA do
    local id = ARGV[i]
    local record, index
    if redis.call('HEXISTS', j, id) == 0 then record, index = live_record(k, id) end
    if record and string.sub(record, 1, 1) ~= 'c' then
        local content = struct.unpack('>i4', record, 10)
        local ended, _, _, _, note, lease = read_side(string.sub(record, 14))
        local value = sound(string.sub(record, 14 + SIDE + (note and #note or 0) + math.max(content, 0)), now)
        redis.call('HSET', j, id, value)
        redis.call('HSET', x, id, side_of(ended == 1 and 1 or 2, 0, 0, now, nil, lease))
        redis.call('ZADD', r, now - priority_of(value) * BOOST, id)
        redis.call('ZREM', index, id)
        redis.call('HDEL', k, id)
        woken = true
        answers[#answers + 1] = 'y'
    else
        answers[#answers + 1] = 'n'
    end
end
if woken then
    redis.call('ZADD', w, 0, 'r')
    redis.call('HINCRBY', p, 'requeued', 1)
end
return table.concat(answers)
