-- keys: j s t o k dr dc df dx dd
-- ARGV: ids
-- Returns a letter per id, by where it stands and without reading it: pending, scheduled, retrying,
-- (o) running, completed, failed, (x) cancelled, dead, or - for what is not here.
local DONE = {{dr, 'c'}, {dc, 'c'}, {df, 'f'}, {dx, 'x'}, {dd, 'd'}}
local answers = {}
for i = 1, #ARGV - EXTRA do
    local id = ARGV[i]
    local letter = '-'
    if redis.call('HEXISTS', j, id) == 1 then
        if redis.call('HEXISTS', o, id) == 1 then
            letter = 'o'
        elseif redis.call('ZSCORE', s, id) then
            letter = redis.call('SISMEMBER', t, id) == 1 and 't' or 's'
        else
            letter = 'p'
        end
    elseif redis.call('HEXISTS', k, id) == 1 then
        for _, index in ipairs(DONE) do
            local at = redis.call('ZSCORE', index[1], id)
            if at and tonumber(at) > now then letter = index[2] end
        end
    end
    answers[i] = letter
end
return table.concat(answers)
