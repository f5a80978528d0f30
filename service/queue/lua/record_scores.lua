-- Keeps scores of a job. Returns its record and all its scores where these were the last ones, else false. The first
-- write frees memory: a Redis at its limit refuses a script whose first write may need more, and scores that could not
-- be written would keep the queue from draining. The payload of a scored clip is of no more use, except where the job
-- is dead: the score comes too late, and a replay needs the clip; nor where the job has `views`, of which others
-- may be made until it ends. Stream entries are removed once the job is known to
-- go on; those of the last clip stay until it is finished. `numbers_and_scores` has a number and its scores for each
-- of `count` clips.
-- KEYS: job, scores, events, payload_keys..., stream...
-- ARGV: life, channel, id, group, count, news, numbers_and_scores..., entries...
-- INCLUDE: event, acknowledge, tell
local job, scores, events = unpack(KEYS, 1, 3)
local life, channel, id, group, count, news = unpack(ARGV, 1, 6)
local stream, first_entry = KEYS[4 + count], 7 + 2 * count
local state = redis.call('HMGET', job, 'total', 'finished', 'record', 'views')
if state[2] ~= 'dead' and not state[4] then redis.call('UNLINK', unpack(KEYS, 4, 3 + count)) end
local function go_on()
  acknowledge(stream, group, first_entry)
  return false
end
if not state[1] or state[2] then return go_on() end
local before = redis.call('HLEN', scores)
for i = 7, first_entry - 1, 2 do redis.call('HSET', scores, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', scores, life)
local done = redis.call('HLEN', scores)
if done > before then
  event(events, life, 'running', done)
  tell(news, channel, id, 'scored')
end
if done < tonumber(state[1]) then return go_on() end
return {state[3], redis.call('HGETALL', scores)}
