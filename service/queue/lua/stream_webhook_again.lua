-- Makes the webhook of a live stream due again after `delay` seconds, unless its receiver has got more meanwhile.
-- KEYS: webhooks, webhook
-- ARGV: id, after, delay, attempts
-- INCLUDE: now
local webhooks, webhook = KEYS[1], KEYS[2]
local id, after, delay, attempts = unpack(ARGV, 1, 4)
if redis.call('HGET', webhook, 'after') == after then
  redis.call('HSET', webhook, 'attempts', attempts)
  redis.call('ZADD', webhooks, now + delay, id)
end
