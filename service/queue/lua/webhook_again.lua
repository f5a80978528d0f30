-- Makes a webhook due again after `delay` seconds, unless its job was deleted or has ended again meanwhile.
-- KEYS: webhooks, webhook
-- ARGV: id, ended_at, delay, attempts
-- INCLUDE: now
local webhooks, webhook = KEYS[1], KEYS[2]
local id, ended_at, delay, attempts = unpack(ARGV, 1, 4)
if tonumber(redis.call('HGET', webhook, 'at')) == tonumber(ended_at) then
  redis.call('HSET', webhook, 'attempts', attempts)
  redis.call('ZADD', webhooks, now + delay, id)
end
