-- ak_write: withdrawals into one bucket, and out of it, by the one writer whose epoch and gen are in meta.
--
-- KEYS  {ak:<ns>:<b>}:rev  {ak:<ns>:<b>}:meta  {ak:<ns>:<b>}:ev
-- ARGV  epoch  gen  n_add  (score member)...  n_remove  member...  n_event  (key_id generation exp reason xid kind)...
--       member: <key_id>, <key_id>.<generation> or changed:<key_id>.<generation>; score: unix seconds after which it may go.
--       generation of an event: '' for all. kind: withdrawn, changed, restored.
-- Reply {ok, time_ms, removed} | {fenced, their_gen} | {epoch, their_epoch or ''}; nothing is written but for ok.
--
-- The whole call is checked before the first write: a script that fails half-way is not undone.
local epoch, gen = ARGV[1], ARGV[2]
local prefix = string.sub(KEYS[1] or '', 1, -4)
if #KEYS ~= 3 or prefix .. 'meta' ~= KEYS[2] or prefix .. 'ev' ~= KEYS[3] then
    return redis.error_reply('AKARG keys must be rev, meta and ev of one bucket')
end
if #ARGV < 5 or epoch == '' or #gen ~= 24 or string.find(gen, '[^0-9a-f]') then
    return redis.error_reply('AKARG epoch must be given, and gen be 24 hex digits')
end

local function is_member(text)
    local version = string.match(text, '^changed:(.*)$')
    local id, rest = string.match(version or text, '^([0-9a-f-]+)(.*)$')
    return id and #id == 36 and (string.find(rest, '^%.[1-9]%d*$') or rest == '' and not version)
end

-- The number of items at ARGV[at], and where the next number is.
local function counted(at, width)
    local n = string.find(ARGV[at] or '', '^%d+$') and tonumber(ARGV[at])
    if n then
        return n, at + 1 + n * width
    end
    return 0, #ARGV + 2
end
local add_at = 3
local n_add, remove_at = counted(add_at, 2)
local n_remove, event_at = counted(remove_at, 1)
local n_event, after = counted(event_at, 6)
if after ~= #ARGV + 1 then
    return redis.error_reply('AKARG the numbers of members and events do not fit the arguments')
end
for i = add_at + 1, remove_at - 1, 2 do
    if not string.find(ARGV[i], '^%d+$') or not is_member(ARGV[i + 1]) then
        return redis.error_reply('AKARG not a score and a member')
    end
end
for i = remove_at + 1, event_at - 1 do
    if not is_member(ARGV[i]) then
        return redis.error_reply('AKARG not a member')
    end
end
for i = event_at + 1, after - 6, 6 do
    local kind = ARGV[i + 5]
    if kind ~= 'withdrawn' and kind ~= 'changed' and kind ~= 'restored' then
        return redis.error_reply('AKARG kind must be withdrawn, changed or restored')
    end
end

-- In decimal digits: Redis compares texts by the locale that it was started in, and in Danish "aa" comes after "b".
local function decimal(text)
    return (string.gsub(text, '%x%x%x%x%x%x%x%x', function(part) return string.format('%010.0f', tonumber(part, 16)) end))
end

local meta = redis.call('HMGET', KEYS[2], 'gen', 'epoch', 'count')
local their_gen, their_epoch = meta[1] or '', meta[2] or ''
if decimal(their_gen) > decimal(gen) then
    return {'fenced', their_gen}
end
if their_epoch ~= epoch or their_gen ~= gen then
    return {'epoch', their_epoch}
end
-- Fewer members than were left here: something else took them. Without an epoch only a resync goes on.
if redis.call('ZCARD', KEYS[1]) < (tonumber(meta[3]) or 0) then
    redis.call('HDEL', KEYS[2], 'epoch')
    redis.call('HSET', KEYS[2], 'ready', '0')
    return {'epoch', ''}
end

-- As many at a time as unpack can take. Removed first: what is in both lists ends withdrawn.
local function each(command, first, last)
    local changed = 0
    for at = first, last, 1000 do
        changed = changed + redis.call(command, KEYS[1], unpack(ARGV, at, math.min(at + 999, last)))
    end
    return changed
end
local removed = each('ZREM', remove_at + 1, event_at - 1)
each('ZADD', add_at + 1, remove_at - 1)
for i = event_at + 1, after - 6, 6 do
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', '100000', '*', 'key_id', ARGV[i], 'generation', ARGV[i + 1],
        'exp', ARGV[i + 2], 'reason', ARGV[i + 3], 'xid', ARGV[i + 4], 'kind', ARGV[i + 5])
end
redis.call('HINCRBY', KEYS[2], 'writes', '1')
redis.call('HSET', KEYS[2], 'count', tostring(redis.call('ZCARD', KEYS[1])))

local time = redis.call('TIME')
return {'ok', time[1] * 1000 + math.floor(time[2] / 1000), removed}
