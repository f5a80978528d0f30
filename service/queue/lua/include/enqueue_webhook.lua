-- Queues the webhook of a job that ends, in the same step as its end.
-- INCLUDE: now
local function enqueue_webhook(job, id, state, webhooks, webhook, life)
  local hook = redis.call('HMGET', job, 'webhook', 'owner')
  if not hook[1] then return end
  redis.call('DEL', webhook)
  redis.call('HSET', webhook, 'url', hook[1], 'owner', hook[2] or '', 'state', state, 'at', now)
  redis.call('EXPIRE', webhook, life)
  redis.call('ZADD', webhooks, now, id)
end
