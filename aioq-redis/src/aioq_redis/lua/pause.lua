-- keys: j w p
-- ARGV: 1 or 0
redis.call('HSET', p, 'paused', ARGV[1])
if ARGV[1] == '0' then
    redis.call('HDEL', p, 'paused')
    redis.call('ZADD', w, 0, 'r')
end
return 1
