-- The generic cell rate algorithm. KEYS[1]: whose requests; ARGV: how many, in how many microseconds, the cost of this one.
-- 1: admitted, 0: refused. One value a key, the theoretical arrival time, which expires by itself.
local width = tonumber(ARGV[2])
local step = width / tonumber(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local arrival = tonumber(redis.call('GET', KEYS[1]) or now)
if arrival < now then
    arrival = now
end
arrival = arrival + step * tonumber(ARGV[3])
if arrival - now > width then
    return 0
end
redis.call('SET', KEYS[1], string.format('%.3f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
return 1
