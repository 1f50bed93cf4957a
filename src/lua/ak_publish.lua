-- ak_publish: replaces a value that is not in a bucket, the JWKS or the roles, unless a later writer has.
--
-- KEYS  {ak:<ns>:jwks}  {ak:<ns>:jwks}:gen,  or  {ak:<ns>:roles}  {ak:<ns>:roles}:gen
-- ARGV  gen  'string'  value  |  gen  'hash'  n  (field value)...
-- Reply {ok} | {fenced, their_gen}
local gen, kind = ARGV[1], ARGV[2]
if #KEYS ~= 2 or KEYS[1] .. ':gen' ~= KEYS[2] then
    return redis.error_reply('AKARG keys must be that of the value and that of its gen')
end
if #ARGV < 3 or #gen ~= 24 or string.find(gen, '[^0-9a-f]') then
    return redis.error_reply('AKARG gen must be 24 hex digits')
end
if kind == 'string' then
    if #ARGV ~= 3 then
        return redis.error_reply('AKARG a string is one value')
    end
elseif kind ~= 'hash' or not string.find(ARGV[3], '^%d+$') or #ARGV ~= 3 + 2 * tonumber(ARGV[3]) then
    return redis.error_reply('AKARG expected string and a value, or hash, a number and as many pairs')
end

-- In decimal digits: Redis compares texts by the locale that it was started in, and in Danish "aa" comes after "b".
local function decimal(text)
    return (string.gsub(text, '%x%x%x%x%x%x%x%x', function(part) return string.format('%010.0f', tonumber(part, 16)) end))
end

local theirs = redis.call('GET', KEYS[2]) or ''
if decimal(theirs) > decimal(gen) then
    return {'fenced', theirs}
end

redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], gen)
if kind == 'string' then
    redis.call('SET', KEYS[1], ARGV[3])
else
    for at = 4, #ARGV, 1000 do
        redis.call('HSET', KEYS[1], unpack(ARGV, at, math.min(at + 999, #ARGV)))
    end
end
return {'ok'}
