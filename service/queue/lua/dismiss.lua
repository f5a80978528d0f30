-- Removes entries, and their payloads where those are of no more use: the job is unknown or has ended, or the clip has
-- its scores. The clips of a dead job are kept for its replay, and so are those of a job that was replayed since these
-- entries were delivered. Of a view others may be made until the job
-- ends. `jobs_scores_and_payloads` has three keys for each entry, `entries_and_clips` its id and its clip's number.
-- KEYS: stream, jobs_scores_and_payloads...
-- ARGV: group, entries_and_clips...
local stream, group = KEYS[1], ARGV[1]
local function needed(job, scores, clip)
  local state = redis.call('HMGET', job, 'total', 'finished', 'views')
  return state[1] and (state[2] == 'dead' or not state[2] and (state[3] or redis.call('HEXISTS', scores, clip) == 0))
end
for i = 2, #ARGV, 2 do
  local first = 3 * i / 2 - 1
  redis.call('XACK', stream, group, ARGV[i])
  redis.call('XDEL', stream, ARGV[i])
  if not needed(KEYS[first], KEYS[first + 1], ARGV[i + 1]) then redis.call('UNLINK', KEYS[first + 2]) end
end
