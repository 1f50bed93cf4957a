-- The generic cell rate algorithm with the answer that rate limiting libraries give: {allowed, remaining, retry_after, reset_after}.
-- KEYS[1]: whose requests; ARGV: burst, rate, in how many seconds, the cost of this one. Of {allowed, remaining} each is a number of
-- requests; the times are seconds, as texts, since Redis makes integers of a script's numbers; -1: no need to wait.
-- One value a key, the theoretical arrival time, which expires by itself: in microseconds since 2026, so that a double holds fractions of them.
local step = tonumber(ARGV[3]) * 1000000 / tonumber(ARGV[2])
local width = step * tonumber(ARGV[1])
local cost = tonumber(ARGV[4])
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1767225600) * 1000000 + tonumber(time[2])
local arrival = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now))
local next_arrival = arrival + step * cost
local spare = now + width - next_arrival
if spare < 0 then
    return {0, math.floor((now + width - arrival) / step), tostring(-spare / 1000000), tostring((arrival - now) / 1000000)}
end
local reset = next_arrival - now
if reset > 0 then
    redis.call('SET', KEYS[1], string.format('%.3f', next_arrival), 'PX', math.ceil(reset / 1000))
end
return {cost, math.floor(spare / step), '-1', tostring(reset / 1000000)}
