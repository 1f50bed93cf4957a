-- ak_merge: adds a server's counts to the others' and answers with the others'. For nodes that decide by themselves and
-- exchange counts now and then.
--
-- KEYS  {ak:<rate_ns>:<b>}:rate:<subject>:<limit>:<window_seq>  and the same of window_seq - 1
-- ARGV  field  own_current  own_previous  width_ms
--       field: <node>:<boot>. The counts are all that this node has counted in that window since it began.
-- Reply {others_current, others_previous, nodes}
--       others: the sum of all other fields, those of this node before a restart among them. nodes: how many other nodes.
--
-- A count is only ever raised, so sending it again, late or in another order does no harm.
local field = ARGV[1]
local most = 1e15 -- more counts as so much: whole numbers up to there are exact

if #KEYS ~= 2 or #ARGV ~= 4 then
    return redis.error_reply('AKARG expected two keys, field, own_current, own_previous and width_ms')
end
local node, boot = string.match(field, '^([%w_.-]+):([0-9a-f]+)$')
if not node or #node > 64 or #boot ~= 16 then
    return redis.error_reply('AKARG field must be <node>:<16 hex digits>')
end
for i = 2, 4 do
    if not string.find(ARGV[i], '^%d+$') then
        return redis.error_reply('AKARG own_current, own_previous and width_ms must be whole numbers')
    end
end
local width = tonumber(ARGV[4])
if width < 1 or width > most then
    return redis.error_reply('AKARG width_ms must be positive')
end

-- Whoever may count may have written anything: what is no number of 1 or more is no count, and none is above most. (Not the other
-- way round: nothing is less or more than NaN.)
local function count_of(text)
    local number = tonumber(text)
    return number and number >= 1 and math.floor(math.min(number, most)) or 0
end

local seen, nodes = {[node] = true}, 0

local function merge(key, own)
    local fields = redis.call('HGETALL', key)
    local others, stored = 0, 0
    for i = 1, #fields, 2 do
        if fields[i] == field then
            stored = count_of(fields[i + 1])
        else
            others = others + count_of(fields[i + 1])
            local name = string.match(fields[i], '^(.*):') or fields[i]
            if not seen[name] then
                seen[name] = true
                nodes = nodes + 1
            end
        end
    end
    own = math.min(own, most)
    if own > stored then
        redis.call('HSET', key, field, string.format('%.0f', own))
        redis.call('PEXPIRE', key, string.format('%.0f', 2 * width))
    end
    return math.min(others, most)
end

local current = merge(KEYS[1], tonumber(ARGV[2]))
local previous = merge(KEYS[2], tonumber(ARGV[3]))
return {current, previous, nodes}
