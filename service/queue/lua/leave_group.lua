-- Deletes a consumer, unless it holds entries: they would be lost with it.
-- KEYS: stream
-- ARGV: group, name
local stream, group, name = KEYS[1], unpack(ARGV, 1, 2)
local held = redis.pcall('XPENDING', stream, group, '-', '+', 1, name)
if not held.err and #held == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, group, name) end
