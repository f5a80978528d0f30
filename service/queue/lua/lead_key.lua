-- Lets an Idempotency-Key lead to a job, if the caller still owns it.
-- KEYS: key
-- ARGV: token, value, life
local key = KEYS[1]
local token, value, life = unpack(ARGV, 1, 3)
if redis.call('GET', key) == token then redis.call('SET', key, value, 'EX', life) end
