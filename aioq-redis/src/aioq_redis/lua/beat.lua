-- keys: workers beats
-- ARGV: id, description
-- The entries of those who have been silent for a day go.
redis.call('HSET', workers, ARGV[1], ARGV[2])
redis.call('ZADD', beats, now, ARGV[1])
local gone = redis.call('ZRANGEBYSCORE', beats, '-inf', now - 86400000, 'LIMIT', 0, 100)
many('HDEL', workers, gone)
many('ZREM', beats, gone)
return 1
