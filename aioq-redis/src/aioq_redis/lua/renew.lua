-- keys: j l c p
-- ARGV: lease in ms, count, leases
-- Returns how they stand, a letter each: kept, stop (its cancel was asked), lost.
local lease_ms, count = tonumber(ARGV[1]), tonumber(ARGV[2])
touch(p, lease_ms)
local answers = {}
for first = 3, count + 2, 2000 do
    local last = math.min(first + 1999, count + 2)
    local scores = redis.call('ZMSCORE', l, unpack(ARGV, first, last))
    local stops = redis.call('HLEN', c) > 0
    local renewed = {}
    for i, score in ipairs(scores) do
        local lease = ARGV[first + i - 1]
        if score then
            renewed[#renewed + 1] = now + lease_ms
            renewed[#renewed + 1] = lease
            local stop = stops and redis.call('HEXISTS', c, string.sub(lease, 1, 16)) == 1
            answers[#answers + 1] = stop and 's' or 'k'
        else
            answers[#answers + 1] = 'l'
        end
    end
    many('ZADD', l, renewed)
end
return table.concat(answers)
