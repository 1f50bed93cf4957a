-- ak_mark: heartbeat, watermark and readiness of one bucket, by the one writer whose epoch and gen are in meta; and members
-- whose time has passed go.
--
-- KEYS  {ak:<ns>:<b>}:rev  {ak:<ns>:<b>}:meta
-- ARGV  epoch  gen  watermark_ms ('' leaves it)  ready ('' leaves it, 0, 1)  [writes]  [now_s]
--       writes: how many calls of ak_write this epoch has had answered or sent before this one ('' does not compare). Another
--       number in meta means that some of them are not in this data set: refused by Redis, or lost by a fail-over that the
--       connection did not show.
--       now_s: unix seconds by the caller's clock; members go by the earlier of that and Redis' TIME.
-- Reply {ok, time_ms, count} | {fenced, their_gen} | {epoch, their_epoch or ''}
--
-- Where data was lost, the bucket is made not ready and its epoch is removed, so that only a resync (ak_begin) goes on.
local epoch, gen, watermark, ready = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local writes, now_s = ARGV[5] or '', ARGV[6] or ''
if #KEYS ~= 2 or string.sub(KEYS[1], 1, -4) .. 'meta' ~= KEYS[2] then
    return redis.error_reply('AKARG keys must be rev and meta of one bucket')
end
if #ARGV < 4 or epoch == '' or #gen ~= 24 or string.find(gen, '[^0-9a-f]') then
    return redis.error_reply('AKARG epoch must be given, and gen be 24 hex digits')
end
if string.find(watermark .. writes .. now_s, '[^%d]') then
    return redis.error_reply('AKARG watermark_ms, writes and now_s must be whole numbers')
end
if ready ~= '' and ready ~= '0' and ready ~= '1' then
    return redis.error_reply('AKARG ready must be 0, 1 or empty')
end

-- In decimal digits: Redis compares texts by the locale that it was started in, and in Danish "aa" comes after "b".
local function decimal(text)
    return (string.gsub(text, '%x%x%x%x%x%x%x%x', function(part) return string.format('%010.0f', tonumber(part, 16)) end))
end

local meta = redis.call('HMGET', KEYS[2], 'gen', 'epoch', 'count', 'writes', 'watermark_ms')
local their_gen, their_epoch = meta[1] or '', meta[2] or ''
if decimal(their_gen) > decimal(gen) then
    return {'fenced', their_gen}
end
if their_epoch ~= epoch or their_gen ~= gen then
    return {'epoch', their_epoch}
end
if redis.call('ZCARD', KEYS[1]) < (tonumber(meta[3]) or 0) or (writes ~= '' and tonumber(writes) ~= tonumber(meta[4])) then
    redis.call('HDEL', KEYS[2], 'epoch')
    redis.call('HSET', KEYS[2], 'ready', '0')
    return {'epoch', ''}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A clock that is ahead must not take away what still counts. Some at a time: Redis serves nobody else meanwhile.
local earliest = math.min(tonumber(time[1]), tonumber(now_s) or math.huge)
local past = redis.call('ZCOUNT', KEYS[1], '-inf', string.format('(%.0f', earliest))
if past > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[1], '0', string.format('%.0f', math.min(past, 10000) - 1))
end
local count = redis.call('ZCARD', KEYS[1])

redis.call('HSET', KEYS[2], 'heartbeat_ms', string.format('%.0f', now), 'count', string.format('%.0f', count))
if watermark ~= '' then
    -- Never back, but for one in the future, which a clock that was set back has left behind.
    local before = tonumber(meta[5])
    if not before or before > now or before < tonumber(watermark) then
        redis.call('HSET', KEYS[2], 'watermark_ms', string.format('%.0f', tonumber(watermark)))
    end
end
if ready ~= '' then
    redis.call('HSET', KEYS[2], 'ready', ready)
end
return {'ok', now, count}
