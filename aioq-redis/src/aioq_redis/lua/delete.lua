-- keys: j r q s t l o x w c k dr dc df dx dd watch
-- keys beyond: the result of each id
-- ARGV: ids
-- Returns a letter per id: yes, no.
local answers, gone = {}, {}
for i = 1, #ARGV - EXTRA do
    local id = ARGV[i]
    local live = redis.call('HEXISTS', j, id) == 1
    if live and redis.call('HEXISTS', o, id) == 1 then
        answers[i] = 'n'
    elseif live then
        for _, place in ipairs({r, q, s}) do redis.call('ZREM', place, id) end
        redis.call('SREM', t, id)
        redis.call('HDEL', x, id)
        redis.call('HDEL', j, id)
        gone[#gone + 1] = id
        answers[i] = 'y'
    else
        local record, index = live_record(k, id)
        if record then
            redis.call('ZREM', index, id)
            redis.call('HDEL', k, id)
            redis.call('DEL', KEYS[KEY_COUNT + i])
        end
        answers[i] = record and 'y' or 'n'
    end
end
tell(gone)
return table.concat(answers)
