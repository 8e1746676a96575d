-- keys: j r q s t l o x w c k dr dc df dx dd watch
-- keys beyond: one per result, in order
-- ARGV: count, a byte per item (kind in the low 3 bits; 8: delay, 16: note, 32: result, 64: type),
-- ms for which completed and other records are kept, cap on completed ones, the leases, then for
-- each item what its byte announces: delay; note; result and ttl; type.
-- Returns a letter per item: accepted, known, stale.
local count, plan = tonumber(ARGV[1]), ARGV[2]
local keep, keep_other, cap = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local KIND = {[0] = 'c', 'f', 'x', 'd'}
local RETRY, SNOOZE, RELEASE = 4, 5, 6
local first_lease, extra, result_key = 6, 6 + count, KEY_COUNT

local owned = redis.call('ZMSCORE', l, unpack(ARGV, first_lease, first_lease + count - 1))
local has_sides = redis.call('HLEN', x) > 0
local ids = {}
for i = 1, count do ids[i] = string.sub(ARGV[first_lease + i - 1], 1, 16) end
local sides = has_sides and redis.call('HMGET', x, unpack(ids)) or {}
local values = redis.call('HMGET', j, unpack(ids))
local stops = redis.call('HLEN', c) > 0
local answers, touched = {}, {}

-- What a token is worth that holds no lease: 'a' only for a completion that nobody has overtaken.
local function judge(id, lease, value, side, kind)
    if touched[id] then return touched[id] == lease and 'k' or 's' end
    if not value then
        local record = redis.call('HGET', k, id)
        if record and string.sub(record, 35, 13 + SIDE) == lease then
            return string.byte(record, 14) == 1 and 'k' or 's'
        end
        return 's'
    end
    if redis.call('HEXISTS', o, id) == 1 then return 's' end
    local ended, _, _, _, _, last = read_side(side)
    if last == lease then
        if ended == 1 then return 'k' end
        return ended == 0 and kind == 0 and 'a' or 's'
    end
    -- An id that was deleted and given again begins anew, as another job.
    if string.sub(value, 1, 8) ~= string.sub(lease, 53, 60) then return 's' end
    local number = struct.unpack('>I4', lease, 17)
    local newest = ended and struct.unpack('>I4', last, 17) or 0
    return kind == 0 and newest < number and 'a' or 's'
end

local plain = 'c' .. struct.pack('>di4', now, -1) .. struct.pack('>BI4I4', 1, 0, 0)
local completed = to_index[dc]
for i = 1, count do
    local bits = string.byte(plan, i)
    local id, lease, value, side = ids[i], ARGV[first_lease + i - 1], values[i], sides[i]
    local running = owned[i] and value
    if running and bits == 0 and not side then
        -- The usual case, without detours: completed, the first delivery, nothing to keep.
        value = sound(value, now)
        to_records[#to_records + 1] = id
        to_records[#to_records + 1] = plain .. string.sub(lease, 45, 52) .. '\255\255\255\255' .. lease
            .. string.sub(value, 1, body_at(value) - 1)
        completed[#completed + 1] = now + keep
        completed[#completed + 1] = id
        finished[#finished + 1] = id
        left_leases[#left_leases + 1] = lease
        left_owners[#left_owners + 1] = id
        touched[id] = lease
        answers[i] = 'a'
    else
        local kind = bit.band(bits, 7)
        local delay, fresh_note, result, ttl, content = 0, nil, nil, nil, nil
        if bit.band(bits, 8) > 0 then
            delay = tonumber(ARGV[extra])
            extra = extra + 1
        end
        if bit.band(bits, 16) > 0 then
            fresh_note = ARGV[extra]
            extra = extra + 1
        end
        if bit.band(bits, 32) > 0 then
            result, ttl = ARGV[extra], tonumber(ARGV[extra + 1])
            extra = extra + 2
            result_key = result_key + 1
        end
        if bit.band(bits, 64) > 0 then
            content = ARGV[extra]
            extra = extra + 1
        end
        local answer = running and 'a' or judge(id, lease, value, side, kind)
        answers[i] = answer
        if answer == 'a' then
            value = sound(value, now)
            touched[id] = lease
            local ended, retries, crashes, side_due, note = read_side(side)
            local due, priority = struct.unpack('>d', lease, 45), priority_of(value)
            if not ended then retries, crashes, side_due = 0, 0, due end
            note = fresh_note or note
            if running then
                leave_running(id, lease)
            else
                due = side_due
                left_waiting[#left_waiting + 1] = id
            end
            if kind >= RETRY and stops and redis.call('HEXISTS', c, id) == 1 then kind = 2 end
            if kind < RETRY then
                if result then redis.call('SET', KEYS[result_key], result, 'PX', ttl) end
                local until_ms = now + (result and ttl or kind == 0 and keep or keep_other)
                finish(id, KIND[kind], value, side_of(1, retries, crashes, due, note, lease),
                    until_ms, result, content)
            else
                if kind == RETRY then retries = retries + 1 end
                if delay > 0 or kind ~= RELEASE then due = now + delay end
                give_back(id, priority, due, retries, crashes,
                    side_of(1, retries, crashes, due, note, lease))
            end
        end
    end
end
write()
cap_completed(cap)
return table.concat(answers)
