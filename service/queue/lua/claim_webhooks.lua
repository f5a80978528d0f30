-- Claims webhooks that have been due for `late` seconds, by moving them into the future: where their sender dies they
-- are due again.
-- KEYS: webhooks
-- ARGV: lease, late, count, webhook_prefix
-- INCLUDE: now
local webhooks = KEYS[1]
local lease, late, count, webhook_prefix = unpack(ARGV, 1, 4)
local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', webhooks, '-inf', now - late, 'LIMIT', 0, count)) do
  local key = webhook_prefix .. id
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', webhooks, id)
  else
    redis.call('ZADD', webhooks, now + lease, id)
    redis.call('HINCRBY', key, 'attempts', 1)
    claimed[#claimed + 1] = {id, redis.call('HMGET', key, 'url', 'owner', 'state', 'at', 'attempts')}
  end
end
return {string.format('%.6f', now), claimed}
