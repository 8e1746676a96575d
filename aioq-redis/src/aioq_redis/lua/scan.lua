-- keys: j k p
-- keys beyond: where to look (j, k, or a place)
-- ARGV: cursor, how many, its type, task ('' for all), finished so many ms ago ('' for all)
-- Returns the next cursor, how many times jobs were requeued, how many bytes were read, and the ids
-- that fit.
local place, cursor, amount, kind = KEYS[KEY_COUNT + 1], ARGV[1], ARGV[2], ARGV[3]
local task, before = ARGV[4], ARGV[5] ~= '' and now - ARGV[5] or nil
local ids, values, read = {}, {}, 0

-- A hash is read with its values where they are needed, or where the server cannot leave them out.
local slice = nil
if kind == 'H' and task == '' and not before then
    slice = redis.pcall('HSCAN', place, cursor, 'COUNT', amount, 'NOVALUES')
    if slice.err then slice = nil else ids = slice[2] end
end
if not slice then
    slice = redis.call(kind .. 'SCAN', place, cursor, 'COUNT', amount)
    if kind == 'S' then
        ids = slice[2]
    else
        for i = 1, #slice[2], 2 do
            ids[#ids + 1] = slice[2][i]
            values[#ids] = kind == 'H' and slice[2][i + 1] or nil
            read = read + #slice[2][i + 1]
        end
    end
end

local function task_of(value)
    if not body_at(value) then return '' end
    return string.sub(value, 19, 18 + struct.unpack('>I2', value, 13))
end

local function fits(id, value)
    if task == '' and not before then return true end
    local record = nil
    if place ~= j and place ~= k then
        value = redis.call('HGET', j, id)
        record = not value and redis.call('HGET', k, id)
        read = read + #(value or record or '')
    elseif place == k then
        record = value
    end
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

local reply = {slice[1], redis.call('HGET', p, 'requeued') or '0', 0}
for i, id in ipairs(ids) do
    if #id == 16 and fits(id, values[i]) then reply[#reply + 1] = id end
end
reply[3] = read
return reply
