-- Prolongs the claim on an Idempotency-Key, if the caller still owns it.
-- KEYS: key
-- ARGV: token, life
local key, token, life = KEYS[1], ARGV[1], ARGV[2]
if redis.call('GET', key) == token then redis.call('EXPIRE', key, life) end
