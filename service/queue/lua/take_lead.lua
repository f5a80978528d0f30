-- Lets at most `most` workers wait at the streams of a route: for each that waits there, Redis looks again whenever a
-- clip is queued. These lead the route for `life_ms` from now. A worker that leads no route follows until the lead is
-- passed to it. Returns whether a route has all the leaders that it may have, then the numbers of the routes that the
-- worker leads.
-- KEYS: leaders..., followers...
-- ARGV: worker, most, life_ms
-- INCLUDE: now
local worker, most, life_ms = unpack(ARGV, 1, 3)
local routes, lapses, reply = #KEYS / 2, now + life_ms / 1000, {0}
local function join(members)
  redis.call('ZADD', members, lapses, worker)
  redis.call('PEXPIRE', members, life_ms)
end
for i = 1, routes do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  if redis.call('ZSCORE', KEYS[i], worker) or redis.call('ZCARD', KEYS[i]) < tonumber(most) then
    join(KEYS[i])
    reply[#reply + 1] = i
  end
  if redis.call('ZCARD', KEYS[i]) >= tonumber(most) then reply[1] = 1 end
end
for i = routes + 1, #KEYS do
  if #reply == 1 then join(KEYS[i]) else redis.call('ZREM', KEYS[i], worker) end
end
return reply
