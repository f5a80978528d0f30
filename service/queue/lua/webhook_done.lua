-- Deletes a webhook that was delivered or given up. A job that was replayed ends a second time, perhaps during the
-- delivery of its first end: what became of that says nothing about the new one.
-- KEYS: webhooks, webhook
-- ARGV: id, ended_at
local webhooks, webhook, id, ended_at = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if tonumber(redis.call('HGET', webhook, 'at')) == tonumber(ended_at) then
  redis.call('ZREM', webhooks, id)
  redis.call('DEL', webhook)
end
