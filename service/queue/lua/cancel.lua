-- Erases a job. Returns 0 where it is unknown, 1 where it had ended, 2 where it was unfinished. An Idempotency-Key and
-- a place in the result cache may lead to another job by now: they change only where they lead to this one. The key
-- leads to the deleted job for a while: an earlier upload with it that was delayed must not make another job, and to
-- new requests it is free. A dead job is no longer kept for a replay, and its letter is deleted too. Earlier releases
-- call the field of the cache key `same`.
-- KEYS: job, outcome, scores, deadlines, events, webhooks, webhook, letters, kept
-- ARGV: id, channel, life, payload_prefix, news, ended_prefix, held_prefix
-- INCLUDE: event, delete_letters, tell, let_go
local job, outcome, scores, deadlines, events, webhooks, webhook, letters, kept = unpack(KEYS, 1, 9)
local id, channel, life, payload_prefix, news, ended_prefix, held_prefix = unpack(ARGV, 1, 7)
redis.call('ZREM', deadlines, id)
local state = redis.call('HMGET', job, 'total', 'finished', 'idempotency', 'same', 'home', 'holds')
if not state[1] then return 0 end
for clip = 0, state[1] - 1 do redis.call('UNLINK', payload_prefix .. clip) end
local done = redis.call('HLEN', scores)
redis.call('UNLINK', outcome, scores, webhook)
redis.call('ZREM', webhooks, id)
local function leads_here(key)
  local value = key and redis.call('GET', key)
  return value and value:find(id, 1, true)
end
if leads_here(state[3]) then
  redis.call('SET', state[3], '{"job": "' .. id .. '", "fingerprint": ""}', 'EX', life)
end
if leads_here(state[4]) then redis.call('DEL', state[4]) end
if state[2] == 'dead' then
  delete_letters(letters, id)
  redis.call('UNLINK', kept)
end
let_go(held_prefix, id, state[6])
redis.call('HDEL', job, 'record')
redis.call('HSET', job, 'finished', 'cancelled')
redis.call('EXPIRE', job, life)
if not state[2] then event(events, life, 'cancelled', done) end
tell_end(news, channel, id, ended_prefix, state[5])
return state[2] and 1 or 2
