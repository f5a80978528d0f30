-- Deletes an Idempotency-Key, if the caller still owns it.
-- KEYS: key
-- ARGV: token
local key, token = KEYS[1], ARGV[1]
if redis.call('GET', key) == token then redis.call('DEL', key) end
