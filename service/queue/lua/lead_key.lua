-- Lets an Idempotency-Key lead to a job, unless another request has it.
-- KEYS: key
-- ARGV: token, value, life
local key = KEYS[1]
local token, value, life = unpack(ARGV, 1, 3)
local holder = redis.call('GET', key)
if not holder or holder == token then redis.call('SET', key, value, 'EX', life) end
