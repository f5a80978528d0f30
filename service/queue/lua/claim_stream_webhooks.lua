-- Claims webhooks of live streams as `claim_webhooks` does. Each comes with the first event that its receiver has not
-- got; one whose receiver has got all that are kept is due again when the next is told.
-- KEYS: webhooks
-- ARGV: lease, late, count, webhook_prefix, events_prefix
-- INCLUDE: now
local webhooks = KEYS[1]
local lease, late, count, webhook_prefix, events_prefix = unpack(ARGV, 1, 5)
local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', webhooks, '-inf', now - late, 'LIMIT', 0, count)) do
  local key = webhook_prefix .. id
  local hook = redis.call('HMGET', key, 'url', 'owner', 'after')
  local after = hook[3]
  local event = after and redis.call('XRANGE', events_prefix .. id, '(' .. after, '+', 'COUNT', 1)[1]
  if event then
    redis.call('ZADD', webhooks, now + lease, id)
    local attempts = redis.call('HINCRBY', key, 'attempts', 1)
    claimed[#claimed + 1] = {id, hook, attempts, event}
  else
    redis.call('ZREM', webhooks, id)
  end
end
return {string.format('%.6f', now), claimed}
