-- keys: j watch
-- ARGV: channel, ids
-- Registers the channel for those of the jobs that are live here.
local MOST = 16
for i = 2, #ARGV - EXTRA do
    local id = ARGV[i]
    if redis.call('HEXISTS', j, id) == 1 then
        local names = redis.call('HGET', watch, id)
        local known, many_names = false, 0
        for name in string.gmatch(names or '', '[^\n]+') do
            many_names = many_names + 1
            known = known or name == ARGV[1]
        end
        if not known and many_names < MOST then
            redis.call('HSET', watch, id, (names and names .. '\n' or '') .. ARGV[1])
        end
    end
end
return 1
