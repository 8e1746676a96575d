-- A step of priority passes ordinary jobs that are up to this many ms older.
local BOOST = 60000

-- One variadic command for a list of values. Lua's stack ends below 8 000; pairs stay together.
local function many(command, key, values)
    local size = #values
    for first = 1, size, 4000 do
        redis.call(command, key, unpack(values, first, math.min(first + 3999, size)))
    end
end
