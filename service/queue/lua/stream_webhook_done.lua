-- Notes that an event of a live stream was delivered, or given up; the next one is due at once. Returns whether
-- there is one. A sender that stood still, and whose claim another has had since, changes nothing.
-- KEYS: webhooks, webhook, events
-- ARGV: id, after, delivered
-- INCLUDE: now
local webhooks, webhook, events = KEYS[1], KEYS[2], KEYS[3]
local id, after, delivered = unpack(ARGV, 1, 3)
if redis.call('HGET', webhook, 'after') ~= after then return 0 end
redis.call('HSET', webhook, 'after', delivered, 'attempts', 0)
if #redis.call('XRANGE', events, '(' .. delivered, '+', 'COUNT', 1) == 0 then
  redis.call('ZREM', webhooks, id)
  return 0
end
redis.call('ZADD', webhooks, now, id)
return 1
