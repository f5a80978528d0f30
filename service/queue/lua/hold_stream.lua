-- Holds a live stream for `lease_s` and writes what its holder tells. The `mode` says whose it may be before: with
-- `keep` the caller's own, with `take` also one whose hold has lapsed, with `steal` anyone's. Returns 'unknown' for a
-- session that is not there, 'ended' or 'held' where it may not be held, else 'ours' and the id of the event.
-- KEYS: session, events
-- ARGV: mode, holder, lease_s, life, most_events, news, event, fields...
-- INCLUDE: now
local session, events = KEYS[1], KEYS[2]
local mode, holder, lease_s, life, most_events, news, event = unpack(ARGV, 1, 7)
local found = redis.call('HMGET', session, 'holder', 'held_until', 'ended')
if not found[1] then return {'unknown', ''} end
if found[3] then return {'ended', ''} end
if found[1] ~= holder and mode ~= 'steal' then
  if mode == 'keep' or tonumber(found[2]) > now then return {'held', ''} end
end
redis.call('HSET', session, 'holder', holder, 'held_until', now + lease_s, 'at', now, unpack(ARGV, 8))
redis.call('EXPIRE', session, life)
if event == '' then
  redis.call('EXPIRE', events, life)
  return {'ours', ''}
end
local id = redis.call('XADD', events, 'MAXLEN', most_events, '*', 'event', event)
redis.call('EXPIRE', events, life)
redis.call('PUBLISH', news, 'told')
return {'ours', id}
