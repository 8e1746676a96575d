-- keys: workers beats
-- ARGV: how long ago, in ms, a worker may have been heard of
-- Returns pairs of that time and its description.
local alive = redis.call('ZRANGEBYSCORE', beats, '(' .. (now - ARGV[1]), '+inf', 'WITHSCORES')
local reply = {}
for i = 1, #alive, 2 do
    local description = redis.call('HGET', workers, alive[i])
    if description then
        reply[#reply + 1] = math.max(0, now - alive[i + 1])
        reply[#reply + 1] = description
    end
end
return reply
