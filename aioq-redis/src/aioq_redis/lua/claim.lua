-- keys*: j r q s t l o x w p
-- ARGV: limit, room in bytes, whether one from quarantine is wanted, worker, lease in ms, how many
-- were taken elsewhere.
-- Returns the time, whether more is ready, the time to the next due job (-1: none), and for each
-- queue a count and as many triples of lease, value, side.
local limit, room, wants = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local worker, lease_ms = ARGV[4], tonumber(ARGV[5])
local PROMOTE = 200
local first_time = struct.pack('>I4', 1) .. worker .. struct.pack('>d', now)
local more, next_due, taken, full = false, -1, tonumber(ARGV[6]), false
local reply = {now, 0, -1}

-- Lua's own comparison of strings depends on the server's locale.
local function sorts_before(one, other)
    for i = 1, #one do
        local a, b = string.byte(one, i), string.byte(other, i) or -1
        if a ~= b then return a < b end
    end
    return #one < #other
end

local function take(base)
    local j, r, q, s, t = KEYS[base + 1], KEYS[base + 2], KEYS[base + 3], KEYS[base + 4], KEYS[base + 5]
    local l, o, x, w, p = KEYS[base + 6], KEYS[base + 7], KEYS[base + 8], KEYS[base + 9], KEYS[base + 10]
    redis.call('ZREM', w, 'r')
    local head = redis.call('ZRANGE', s, 0, 0, 'WITHSCORES')
    if head[2] and tonumber(head[2]) <= now then
        promote(j, r, q, s, t, x, w, now, PROMOTE)
        head = redis.call('ZRANGE', s, 0, 0, 'WITHSCORES')
    end
    if head[2] then
        local due_in = math.max(0, head[2] - now)
        if next_due < 0 or due_in < next_due then next_due = due_in end
    end

    local at = #reply + 1
    local count = 0
    reply[at] = 0
    if redis.call('HGET', p, 'paused') ~= '1' then
        local wanted = full and 0 or limit - taken
        local ready = redis.call('ZRANGE', r, 0, wanted, 'WITHSCORES')
        local suspect = wants and redis.call('ZRANGE', q, 0, 0, 'WITHSCORES') or {}

        -- The line in which jobs go out; the suspect has its turn in it.
        local ids, scores, turn = {}, {}, nil
        for i = 1, #ready, 2 do
            local score = tonumber(ready[i + 1])
            if suspect[1] and not turn then
                local key = tonumber(suspect[2])
                if key < score or (key == score and sorts_before(suspect[1], ready[i])) then
                    turn = #ids + 1
                    ids[turn], scores[turn] = suspect[1], key
                end
            end
            ids[#ids + 1], scores[#scores + 1] = ready[i], score
        end
        if suspect[1] and not turn then
            turn = #ids + 1
            ids[turn], scores[turn] = suspect[1], tonumber(suspect[2])
        end

        -- Bodies are read in slices, so that large ones which do not fit are not read for nothing.
        local has_sides = redis.call('HLEN', x) > 0
        local values, sides, ghosts, leases, owners, adopted = {}, {}, {}, {}, {}, {}
        local slice, from, used = 16, 1, 0
        local suspect_taken = false
        while from <= #ids and count < wanted and not full do
            local to = math.min(from + slice - 1, #ids, from + wanted - count - 1)
            values = redis.call('HMGET', j, unpack(ids, from, to))
            sides = has_sides and redis.call('HMGET', x, unpack(ids, from, to)) or {}
            for i = from, to do
                local id, value = ids[i], values[i - from + 1]
                if not value or #id ~= 16 then
                    ghosts[#ghosts + 1] = id
                else
                    value = sound(value, now)
                    local body = #value - body_at(value) + 1
                    if body > room and taken + count > 0 then
                        full = true
                        break
                    end
                    room = room - body
                    used = used + body
                    count = count + 1
                    local raw = string.sub(value, 1, 12)
                    local due = struct.pack('>d', scores[i] + priority_of(value) * BOOST)
                    local side = sides[i - from + 1] or ''
                    local begun = first_time
                    local ended, retries, crashes, side_due, note, last = read_side(side)
                    if ended then
                        due = struct.pack('>d', side_due)
                        begun = struct.pack('>I4', struct.unpack('>I4', last, 17) + 1)
                            .. worker .. struct.pack('>d', now)
                        if ended == 0 and crashes > 0 and string.sub(last, 21, 36) == worker then
                            side = side_of(ended, retries, crashes - 1, side_due, note, last)
                            adopted[#adopted + 1] = id
                            adopted[#adopted + 1] = side
                        end
                    else
                        side = ''
                    end
                    local lease = id .. begun .. due .. raw .. (i == turn and '\1' or '\0')
                    leases[#leases + 1] = now + lease_ms
                    leases[#leases + 1] = lease
                    owners[#owners + 1] = id
                    owners[#owners + 1] = lease
                    suspect_taken = suspect_taken or i == turn
                    reply[#reply + 1] = lease
                    reply[#reply + 1] = value
                    reply[#reply + 1] = side
                end
            end
            from = to + 1
            if count > 0 then
                slice = math.max(1, math.min(500, math.floor(room * count / math.max(used, 1))))
            end
        end
        reply[at] = count

        many('ZADD', l, leases)
        many('HSET', o, owners)
        many('HSET', x, adopted)
        local from_ready = count - (suspect_taken and 1 or 0)
        if #ghosts > 0 then
            many('ZREM', r, ghosts)
            many('ZREM', q, ghosts)
        end
        if from_ready > 0 then redis.call('ZREMRANGEBYRANK', r, 0, from_ready - 1) end
        local could = wants
        if suspect_taken then
            redis.call('ZREM', q, ids[turn])
            wants = false
        end
        taken = taken + count
        local in_ready = #ghosts > 0 or #ready / 2 > from_ready
        local in_quarantine = could and redis.call('EXISTS', q) == 1
        if in_ready or in_quarantine then redis.call('ZADD', w, 0, 'r') end
        more = more or in_ready or (wants and in_quarantine)
    end
end

-- A queue that cannot be read (one of its keys holds something else) takes nothing from what the
-- others have given: without jobs its error is raised, else a later claim meets it again.
local failure = nil
for base = 0, #KEYS - 1, 10 do
    local at = #reply + 1
    local done, err = pcall(take, base)
    if not done then
        failure = err
        for i = #reply, at, -1 do reply[i] = nil end
        reply[at] = 0
    end
end
if failure and taken == tonumber(ARGV[6]) then
    return type(failure) == 'table' and failure or {err = failure}
end
reply[2] = more and 1 or 0
reply[3] = next_due
return reply
