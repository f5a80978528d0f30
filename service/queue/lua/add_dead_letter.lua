-- Fails a job as finish.lua does, and keeps record, scores and the clips without scores for a replay, with a dead
-- letter. Returns 1, or 0 where the job is unknown or had ended. A job in stages that ends before all its clips came
-- could not be replayed, and has no letter. Earlier releases call the letter's time `buried_at`.
-- KEYS: job, outcome, scores, deadlines, letters, kept, events, webhooks, webhook
-- ARGV: result, result_life, life, letter_life, channel, id, payload_prefix, clip_bytes, news,
--   ended_prefix, held_prefix, fields...
-- INCLUDE: now, event, enqueue_webhook, tell, let_go
local job, outcome, scores, deadlines, letters, kept, events, webhooks, webhook = unpack(KEYS, 1, 9)
local result, result_life, life, letter_life, channel, id, payload_prefix, clip_bytes = unpack(ARGV, 1, 8)
local news, ended_prefix, held_prefix = unpack(ARGV, 9, 11)
redis.call('ZREM', deadlines, id)
local state = redis.call('HMGET', job, 'total', 'finished', 'record', 'home', 'holds', 'queued')
if not state[1] or state[2] then return 0 end
if not redis.call('SET', outcome, result, 'NX', 'EX', result_life) then return 0 end
local function keep_letter()
  redis.call('EXPIRE', job, math.max(life, letter_life))
  redis.call('EXPIRE', scores, letter_life)
  local clips = 0
  for clip = 0, state[1] - 1 do clips = clips + redis.call('EXPIRE', payload_prefix .. clip, letter_life) end
  redis.call('HSET', kept, 'record', state[3], 'total', state[1])
  redis.call('EXPIRE', kept, letter_life)
  redis.call('XADD', letters, '*', 'clip_bytes', clips * clip_bytes, 'buried_at', now, unpack(ARGV, 12))
end
local done = redis.call('HLEN', scores)
if state[6] then
  redis.call('EXPIRE', job, life)
  redis.call('DEL', scores)
  for clip = 0, state[1] - 1 do redis.call('UNLINK', payload_prefix .. clip) end
else
  keep_letter()
end
redis.call('HSET', job, 'finished', state[6] and '1' or 'dead', 'state', 'failed')
redis.call('HDEL', job, 'record')
let_go(held_prefix, id, state[5])
event(events, result_life, 'failed', done)
enqueue_webhook(job, id, 'failed', webhooks, webhook, life)
tell_end(news, channel, id, ended_prefix, state[4])
return 1
