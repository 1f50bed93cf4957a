-- ak_rate: may this request pass? For nodes that ask Redis at each request.
--
-- KEYS  {ak:<rate_ns>:<b>}:rate:<subject>:<limit>:<window_seq>  and the same of window_seq - 1
-- ARGV  field  own  cost  limit  width_ms  window_seq  [own_previous]
--       field: <node>:<boot>. own: all that this node has counted in this window, this request included. own_previous: all
--       that it counted in the window before, for the case that Redis has lost it.
-- Reply {allowed, remaining, reset_ms, retry_after_ms, window_seq by Redis' TIME}
--       allowed 1 (counted), 0 (nothing written), -1: it is another window by Redis' TIME, the last element says which, and
--       nothing was done. retry_after_ms: -1 when it is allowed or no wait helps.
--
-- A window slides: own + others + floor(previous * (width - elapsed) / width) <= limit, as in src/core/window.cpp. A count is
-- absolute and only ever raised, so asking again after a lost reply counts nothing twice. Cost 0 looks and writes nothing.
local field = ARGV[1]
local most = 1e15 -- more counts as so much: whole numbers up to three times that are exact

local number = {}
for i = 2, 6 do
    number[i] = string.find(ARGV[i] or '', '^%d+$') and math.min(tonumber(ARGV[i]), most)
    if not number[i] then
        return redis.error_reply('AKARG own, cost, limit, width_ms and window_seq must be whole numbers')
    end
end
local own, cost, limit, width, sequence = number[2], number[3], number[4], number[5], number[6]
if width < 1 or own < cost then
    return redis.error_reply('AKARG width_ms must be positive, and own includes the cost')
end
local own_previous = 0
if ARGV[7] and ARGV[7] ~= '' then
    own_previous = string.find(ARGV[7], '^%d+$') and math.min(tonumber(ARGV[7]), most)
    if not own_previous then
        return redis.error_reply('AKARG own_previous must be a whole number')
    end
end
local node, boot = string.match(field, '^([%w_.-]+):([0-9a-f]+)$')
if not node or #node > 64 or #boot ~= 16 then
    return redis.error_reply('AKARG field must be <node>:<16 hex digits>')
end
local stem = #KEYS == 2 and string.match(KEYS[1], '^(.*:)%d+$')
if not stem or KEYS[1] ~= stem .. ARGV[6] or KEYS[2] ~= string.format('%s%.0f', stem, sequence - 1) then
    return redis.error_reply('AKARG keys must be those of window_seq and of the window before')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local elapsed = now % width
local this = (now - elapsed) / width
if this ~= sequence then
    return {-1, 0, width - elapsed, -1, this}
end

-- floor(a * b / c) and what is left over, for b <= c. Whole numbers of a double end at 2^53, so a larger product is divided
-- bit by bit.
local function portion(a, b, c)
    local product = a * b
    if product < 9007199254740992 then
        local left = product % c
        return (product - left) / c, left
    end
    local quotient, left = 0, 0
    for bit = 52, 0, -1 do
        local power = 2 ^ bit
        quotient, left = 2 * quotient, 2 * left
        if a >= power then
            a, left = a - power, left + b
        end
        while left >= c do
            quotient, left = quotient + 1, left - c
        end
    end
    return quotient, left
end

-- The first instant of a window at which no more than room is left of the count of the window before.
local function faded_at(count, room)
    if count <= room then
        return 0
    end
    local whole, left = portion(width, room + 1, count)
    return left > 0 and width - whole or width - whole + 1
end

-- Whoever may count may have written anything: what is no number of 1 or more is no count, and none is above most. (Not the other
-- way round: nothing is less or more than NaN.)
local function count_of(text)
    local number = tonumber(text)
    return number and number >= 1 and math.floor(math.min(number, most)) or 0
end

-- What all others have counted, and the field's own count.
local function counts(key)
    local fields = redis.call('HGETALL', key)
    local others, mine = 0, 0
    for i = 1, #fields, 2 do
        if fields[i] == field then
            mine = count_of(fields[i + 1])
        else
            others = others + count_of(fields[i + 1])
        end
    end
    return math.min(others, most), mine, #fields > 0
end

local others, stored, present = counts(KEYS[1])
local others_previous, stored_previous = counts(KEYS[2])
local before = others + math.max(stored, own - cost)
local current = others + math.max(stored, own)
local previous = math.min(others_previous + math.max(stored_previous, own_previous), most)
local faded = portion(previous, width - elapsed, width)
local free = limit - current - faded

if free >= 0 or cost == 0 then
    if cost > 0 and own > stored then
        redis.call('HSET', KEYS[1], field, string.format('%.0f', own))
        if not present then
            redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 2 * width))
        end
        if own_previous > stored_previous then
            redis.call('HSET', KEYS[2], field, string.format('%.0f', own_previous))
            redis.call('PEXPIRE', KEYS[2], string.format('%.0f', 2 * width))
        end
    end
    return {1, math.max(free, 0), width - elapsed, -1, this}
end

local retry_after = -1
if current <= limit then
    retry_after = faded_at(previous, limit - current) - elapsed
elseif cost <= limit then
    retry_after = width - elapsed + faded_at(before, limit - cost)
end
return {0, math.max(limit - before - faded, 0), width - elapsed, retry_after, this}
