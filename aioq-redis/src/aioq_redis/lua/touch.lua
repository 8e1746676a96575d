-- A sign of life from a worker. The first after a long silence holds back all rescues for a lease,
-- so that after an outage the living renew before anybody is taken for dead.
local function touch(p, lease_ms)
    local last = redis.call('HGET', p, 'seen')
    if last and now - tonumber(last) > lease_ms / 2 then
        redis.call('HSET', p, 'seen', now, 'no_rescue_before', now + lease_ms)
    else
        redis.call('HSET', p, 'seen', now)
    end
end
