-- keys: j k p
-- keys beyond: where to look (j, k, or a place)
-- ARGV: cursor, how many, its type, task ('' for all), finished so many ms ago ('' for all)
-- Returns the next cursor, how many times jobs were requeued, and the ids that fit.
local place, cursor, amount, kind = KEYS[KEY_COUNT + 1], ARGV[1], ARGV[2], ARGV[3]
local task, before = ARGV[4], ARGV[5] ~= '' and now - ARGV[5] or nil
local slice = redis.call(kind .. 'SCAN', place, cursor, 'COUNT', amount)
local reply = {slice[1], redis.call('HGET', p, 'requeued') or '0'}

local function task_of(value)
    if not body_at(value) then return '' end
    return string.sub(value, 19, 18 + struct.unpack('>I2', value, 13))
end

local function fits(id, value)
    if task == '' and not before then return true end
    local record = nil
    if place ~= k then value = value or redis.call('HGET', j, id) end
    if place == k then record = value elseif not value then record = redis.call('HGET', k, id) end
    if record then
        if #record < 13 + SIDE then return false end
        if before and struct.unpack('>d', record, 2) > before then return false end
        local note, content = struct.unpack('>i4', record, 31), struct.unpack('>i4', record, 10)
        value = string.sub(record, 14 + SIDE + math.max(note, 0) + math.max(content, 0))
    elseif before then
        return false
    end
    return value and (task == '' or task_of(value) == task)
end

for i = 1, #slice[2], 2 do
    local id = slice[2][i]
    if #id == 16 then
        local value = (place == j or place == k) and slice[2][i + 1] or nil
        if fits(id, value) then reply[#reply + 1] = id end
    end
end
return reply
