-- Ends a job with an outcome. Returns 1, or 0 where the job is unknown, had ended, or succeeded after its deadline.
-- The first to set the outcome finishes the job; the rest of the clean-up happens with it and once. Stream entries are
-- of no more use in any case, payloads only to a dead job, which may be replayed. A success after the deadline does
-- not count: readers see the job as expired, and the sweep will end it so. As in record_scores.lua the first write
-- frees memory. `stream` has no element where there are no entries. `payload_keys` are of clips that were scored in
-- this step instead of by record_scores.lua; the payloads of a job with `views` are deleted here only. Earlier releases
-- call the field of the reply channel `home`.
-- KEYS: job, outcome, scores, deadlines, events, webhooks, webhook, stream..., payload_keys...
-- ARGV: result, result_life, life, channel, id, state, group, reply_prefix, max_published, payload_prefix, news,
--   ended_prefix, held_prefix, entries...
-- INCLUDE: now, event, enqueue_webhook, acknowledge, tell, let_go
local job, outcome, scores, deadlines, events, webhooks, webhook = unpack(KEYS, 1, 7)
local result, result_life, life, channel, id, state, group = unpack(ARGV, 1, 7)
local reply_prefix, max_published, payload_prefix, news, ended_prefix, held_prefix = unpack(ARGV, 8, 13)
local stream, first_payload, first_entry = KEYS[8], 9, 14
local before = redis.call('HMGET', job, 'total', 'finished', 'home', 'deadline_at', 'holds', 'views')
local late = state == 'succeeded' and before[4] and now >= tonumber(before[4])
local function finish()
  if not before[1] or before[2] or late then return 0 end
  if not redis.call('SET', outcome, result, 'NX', 'EX', result_life) then return 0 end
  redis.call('HSET', job, 'finished', '1', 'state', state)
  redis.call('HDEL', job, 'record')
  redis.call('EXPIRE', job, life)
  let_go(held_prefix, id, before[5])
  local scored = math.max(0, #KEYS - first_payload + 1)
  if scored > 0 then event(events, result_life, 'running', scored) end
  event(events, result_life, state, scored + redis.call('HLEN', scores))
  enqueue_webhook(job, id, state, webhooks, webhook, life)
  redis.call('DEL', scores)
  if state == 'expired' or before[6] then
    for clip = 0, (before[6] or before[1]) - 1 do redis.call('UNLINK', payload_prefix .. clip) end
  end
  if before[3] and #result <= tonumber(max_published) then
    redis.call('PUBLISH', reply_prefix .. before[3], id .. ' ' .. result)
    tell(news, channel, id, 'ended')
  else
    tell_end(news, channel, id, ended_prefix, before[3])
  end
  return 1
end
if not late then redis.call('ZREM', deadlines, id) end
if before[2] ~= 'dead' then
  for i = first_payload, #KEYS do redis.call('UNLINK', KEYS[i]) end
end
local won = finish()
acknowledge(stream, group, first_entry)
return won
