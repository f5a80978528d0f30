-- Notes that a line of a batch is worked on, and its job once it has one. Returns 1, or 0 where the line has ended: one
-- that has is never among those that run, whoever is stopped meanwhile.
-- KEYS: outcomes, running
-- ARGV: line, job, life
local outcomes, running = KEYS[1], KEYS[2]
local line, job, life = unpack(ARGV, 1, 3)
if redis.call('HEXISTS', outcomes, line) == 1 then return 0 end
redis.call('HSET', running, line, job)
redis.call('EXPIRE', running, life)
return 1
