-- ak_begin: a resync of one bucket begins. The only script that makes meta; from here on the bucket is not ready.
--
-- KEYS  {ak:<ns>:<b>}:rev  {ak:<ns>:<b>}:meta
-- ARGV  gen  expected_epoch  epoch  [run_id]
--       expected_epoch '': meta has none (it is missing, or ak_write or ak_mark found that data was lost).
--       run_id: of the server that holds the bucket, for nodes that compare it (ak_check).
-- Reply {ok, time_ms} | {fenced, their_gen} | {epoch, their_epoch or '', their_gen or ''}; nothing is written but for ok.
--
-- rev stays: a withdrawal counts until the writer knows better.
local gen, expected, epoch, run_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4] or ''
if #KEYS ~= 2 or string.sub(KEYS[1], 1, -4) .. 'meta' ~= KEYS[2] then
    return redis.error_reply('AKARG keys must be rev and meta of one bucket')
end
if #ARGV < 3 or #gen ~= 24 or string.find(gen, '[^0-9a-f]') then
    return redis.error_reply('AKARG gen must be 24 hex digits')
end
if #epoch ~= 36 or string.find(epoch, '[^0-9a-f-]') or epoch == expected then
    return redis.error_reply('AKARG epoch must be a new UUID')
end

-- In decimal digits: Redis compares texts by the locale that it was started in, and in Danish "aa" comes after "b".
local function decimal(text)
    return (string.gsub(text, '%x%x%x%x%x%x%x%x', function(part) return string.format('%010.0f', tonumber(part, 16)) end))
end

local theirs = redis.call('HMGET', KEYS[2], 'gen', 'epoch')
local their_gen, their_epoch = theirs[1] or '', theirs[2] or ''
if decimal(their_gen) > decimal(gen) then
    return {'fenced', their_gen}
end
if their_epoch ~= expected then
    return {'epoch', their_epoch, their_gen}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'schema', '1', 'epoch', epoch, 'gen', gen, 'ready', '0', 'writes', '0',
    'heartbeat_ms', string.format('%.0f', now))
if run_id ~= '' then
    redis.call('HSET', KEYS[2], 'run_id', run_id)
end
return {'ok', now}
