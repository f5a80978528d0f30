-- Holds a live stream for `lease_s` and writes what its holder tells. The `mode` says whose it may be before: with
-- `keep` the caller's own, with `take` also one whose hold has lapsed, with `steal` anyone's. Returns 'unknown' for a
-- session that is not there, 'ended' or 'held' where it may not be held, else 'ours' and the id of the event. Called
-- again with an event, because its reply was lost, it returns the same and writes nothing: `call` names this one.
-- KEYS: session, events, webhooks, webhook
-- ARGV: id, mode, holder, lease_s, life, most_events, news, call, event, fields...
-- INCLUDE: now
local session, events, webhooks, webhook = unpack(KEYS, 1, 4)
local id, mode, holder, lease_s, life, most_events, news, call, event = unpack(ARGV, 1, 9)
local found = redis.call('HMGET', session, 'holder', 'held_until', 'ended', 'call', 'told_as')
if not found[1] then return {'unknown', ''} end
if event ~= '' and found[1] == holder and found[4] == call then return {'ours', found[5]} end
if found[3] then return {'ended', ''} end
if found[1] ~= holder and mode ~= 'steal' then
  if mode == 'keep' or tonumber(found[2]) > now then return {'held', ''} end
end
redis.call('HSET', session, 'holder', holder, 'held_until', now + lease_s, 'at', now, unpack(ARGV, 10))
redis.call('EXPIRE', session, life)
local told = redis.call('EXPIRE', webhook, life) == 1
if event == '' then
  redis.call('EXPIRE', events, life)
  return {'ours', ''}
end
local sequence = redis.call('HINCRBY', session, 'told', 1)
local event_id = redis.call('XADD', events, 'MAXLEN', most_events, '*', 'event', event, 'sequence', sequence)
redis.call('HSET', session, 'call', call, 'told_as', event_id)
redis.call('EXPIRE', events, life)
-- One that is being delivered, or waits for its receiver, keeps its time.
if told then redis.call('ZADD', webhooks, 'NX', now, id) end
redis.call('PUBLISH', news, 'told')
return {'ours', event_id}
