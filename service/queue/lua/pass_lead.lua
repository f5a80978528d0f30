-- Ends what a worker leads or follows, since it has work, and tells the one that began to follow last: of all that
-- follow it is the least likely to have died. An element in the list of its own, where it waits, says so. Called again,
-- because its reply was lost, it tells one more, which finds nothing to do.
-- KEYS: leaders..., followers...
-- ARGV: worker, promoted_prefix, life_ms
-- INCLUDE: now
local worker, promoted_prefix, life_ms = unpack(ARGV, 1, 3)
for i = 1, #KEYS do redis.call('ZREM', KEYS[i], worker) end
for i = #KEYS / 2 + 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  local follower = redis.call('ZRANGE', KEYS[i], -1, -1)[1]
  if follower then
    redis.call('ZREM', KEYS[i], follower)
    redis.call('RPUSH', promoted_prefix .. follower, '')
    redis.call('PEXPIRE', promoted_prefix .. follower, life_ms)
    return
  end
end
