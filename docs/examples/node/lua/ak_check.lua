-- ak_check: has this key been withdrawn? Called by nodes for each request; reads only.
--
-- KEYS  {ak:<ns>:<b>}:rev  {ak:<ns>:<b>}:meta
-- ARGV  key_id  generation  max_staleness_ms  [run_id]
--       run_id: of the server as the caller's connection knows it (INFO server). Where it is given, a mirror that was filled
--       into another process (before a restart, before a fail-over) says so at once, and not only when it is stale.
-- Reply {verdict, age_ms, why}
--       revoked  why = key | generation: which member says so. It counts whatever state the mirror is in.
--       ok       why = ''. Everything that was withdrawn max_staleness_ms ago is in the mirror, and this key is not.
--       unknown  why = changed (the token's claims are no longer true), no_meta, schema, not_ready, server (other run_id),
--                count (members were lost), stale. Never let through on it: refuse, or ask PostgreSQL.
--       age_ms = Redis TIME - watermark_ms, -1 where there is no watermark.
--
-- An id or a number in another spelling would match no member, and "no member" reads as "ok": hence the strict arguments.
local id, generation, staleness, run_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if #KEYS ~= 2 or string.sub(KEYS[1], 1, -4) .. 'meta' ~= KEYS[2] then
    return redis.error_reply('AKARG keys must be rev and meta of one bucket')
end
if #ARGV < 3 or #id ~= 36 or string.find(id, '[^0-9a-f-]') then
    return redis.error_reply('AKARG key_id must be a UUID in lower case')
end
if not string.find(generation, '^[1-9]%d*$') then
    return redis.error_reply('AKARG generation must be a positive number')
end
if not string.find(staleness, '^%d+$') then
    return redis.error_reply('AKARG max_staleness_ms must be a number')
end

local meta = redis.call('HMGET', KEYS[2], 'schema', 'ready', 'watermark_ms', 'count', 'run_id')
local version = id .. '.' .. generation
local score = redis.call('ZMSCORE', KEYS[1], id, version, 'changed:' .. version)

local age = -1
local fresh = false
local watermark = tonumber(meta[3])
if watermark then
    local time = redis.call('TIME')
    age = time[1] * 1000 + math.floor(time[2] / 1000) - watermark
    -- A clock that has been set back makes everything look young. (Not the other way round: nothing is less or more than NaN.)
    fresh = age >= -1000 and age <= tonumber(staleness)
    if fresh and age < 0 then
        age = 0
    end
end

if score[1] then
    return {'revoked', age, 'key'}
elseif score[2] then
    return {'revoked', age, 'generation'}
elseif score[3] then
    return {'unknown', age, 'changed'}
elseif not meta[1] then
    return {'unknown', age, 'no_meta'}
elseif meta[1] ~= '1' then
    return {'unknown', age, 'schema'}
elseif meta[2] ~= '1' then
    return {'unknown', age, 'not_ready'}
elseif run_id and run_id ~= '' and run_id ~= meta[5] then
    return {'unknown', age, 'server'}
elseif not fresh then
    return {'unknown', age, 'stale'}
elseif redis.call('ZCARD', KEYS[1]) < (tonumber(meta[4]) or math.huge) then
    return {'unknown', age, 'count'}
end
return {'ok', age, ''}
