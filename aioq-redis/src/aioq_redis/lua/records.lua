-- A record past its time is absent, whoever trims it and when. Returns the record and its index.
local function live_record(k, id)
    local record = redis.call('HGET', k, id)
    if not record or #record < 13 + SIDE then return nil end
    local index = INDEX[string.sub(record, 1, 1)]
    if not index then return nil end
    if struct.unpack('>i4', record, 10) ~= -1 then index = dr end
    local at = redis.call('ZSCORE', index, id)
    if not at or tonumber(at) <= now then return nil end
    return record, index, tonumber(at)
end
