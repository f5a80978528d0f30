-- Opens a dead job again and queues the clips that have no scores. Returns their number, or 0 where one of them is
-- gone. Called again, because its reply was lost, it returns the same number: `replay` names this one. `fields` has
-- `entry_fields` parts for each clip of the job. Of a job with `views` the first clips are these, and all others are
-- made, in turn, of the `masked` views from `masked_first` on.
-- KEYS: job, outcome, scores, deadlines, letters, kept, events, stream, routes
-- ARGV: id, record, deadline, payload_life, payload_prefix, route, replay, held_prefix, entry_fields, fields...
-- INCLUDE: event, delete_letters
local job, outcome, scores, deadlines, letters, kept, events, stream, routes = unpack(KEYS, 1, 9)
local id, record, deadline, payload_life, payload_prefix, route, replay = unpack(ARGV, 1, 7)
local held_prefix, entry_fields = unpack(ARGV, 8, 9)
local state = redis.call(
  'HMGET', job, 'finished', 'total', 'replay', 'replayed', 'holds', 'views', 'masked_first', 'masked')
if state[3] == replay then return tonumber(state[4]) end
if state[1] ~= 'dead' then return 0 end
local function payload_of(clip)
  local views = tonumber(state[6] or state[2])
  if clip < views then return payload_prefix .. clip end
  return payload_prefix .. state[7] + (clip - views) % state[8]
end
local missing = {}
for clip = 0, state[2] - 1 do
  if redis.call('HEXISTS', scores, clip) == 0 then
    if redis.call('EXISTS', payload_of(clip)) == 0 then return 0 end
    missing[#missing + 1] = clip
  end
end
redis.call('DEL', outcome)
redis.call('HDEL', job, 'finished', 'state')
redis.call('HSET', job, 'record', record, 'deadline_at', deadline, 'replay', replay, 'replayed', #missing)
redis.call('ZADD', deadlines, deadline, id)
redis.call('ZADD', routes, 0, route)
local caller, holds = (state[5] or ''):match('^(%x+):(.+)$')
if caller then
  local held = held_prefix .. caller
  redis.call('ZADD', held, deadline, id .. ':' .. holds)
  if redis.call('TTL', held) < tonumber(payload_life) then redis.call('EXPIRE', held, payload_life) end
end
for _, clip in ipairs(missing) do
  redis.call('EXPIRE', payload_of(clip), payload_life)
  local first = 10 + clip * entry_fields
  redis.call('XADD', stream, '*', unpack(ARGV, first, first + entry_fields - 1))
end
redis.call('EXPIRE', scores, payload_life)
delete_letters(letters, id)
redis.call('DEL', kept)
event(events, payload_life, 'queued', state[2] - #missing)
return #missing
