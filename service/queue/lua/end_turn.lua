-- Ends the caller's turn, so that another process need not wait until it is over.
-- KEYS: turn
-- ARGV: holder
local turn, holder = KEYS[1], ARGV[1]
if redis.call('GET', turn) == holder then redis.call('DEL', turn) end
