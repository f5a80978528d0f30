-- Takes a turn that no process has, or keeps that of the caller, for `life_ms`. Returns 0 where it is the caller's,
-- else for how many milliseconds it is another's.
-- KEYS: turn
-- ARGV: holder, life_ms
local turn, holder, life_ms = KEYS[1], unpack(ARGV, 1, 2)
local found = redis.call('GET', turn)
if found and found ~= holder then return math.max(1, redis.call('PTTL', turn)) end
redis.call('SET', turn, holder, 'PX', life_ms)
return 0
