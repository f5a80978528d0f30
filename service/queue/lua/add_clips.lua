-- Queues further clips of a job in stages; `first` is the number of the first of them. Returns 1, 0 where the job has
-- ended or is unknown, or -1 where clips are gone. Called again, because its reply was lost, it returns 1 again. Clips
-- of a job that has ended are of no use. The job's field `queued` says how many clips are queued, until all are: with
-- the last ones comes the record that the answer is made of, and `left`, the reservation that stays, is ''.
-- KEYS: job, stream, reserved, reservations, counts, held, held_sums, routes, payload_keys...
-- ARGV: id, first, record, reservation, left, payload_life, job_life, route, entry_fields, fields...
-- INCLUDE: reservations, hold
local job, stream, reserved, reservations, counts, held, held_sums, routes = unpack(KEYS, 1, 8)
local id, first, record, reservation, left, payload_life, job_life = unpack(ARGV, 1, 7)
local route, entry_fields, clips = ARGV[8], ARGV[9], #KEYS - 8
local state = redis.call('HMGET', job, 'total', 'finished', 'queued', 'deadline_at')
-- Before all else: the clips of a job that has failed since may be kept for its replay.
if state[1] and state[3] ~= first then return 1 end
if not state[1] or state[2] then
  for i = 9, #KEYS do redis.call('UNLINK', KEYS[i]) end
  return 0
end
for i = 9, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return -1 end
end
for i = 9, #KEYS do redis.call('EXPIRE', KEYS[i], payload_life) end
shrink(reservations, counts, reserved, reservation, left)
hold(job, held, held_sums, id, state[4], reservation, tonumber(first), clips, job_life)
if left == '' then
  redis.call('HSET', job, 'record', record)
  redis.call('HDEL', job, 'queued')
else
  redis.call('HSET', job, 'queued', first + clips)
end
redis.call('ZADD', routes, 0, route)
for at = 10, #ARGV, entry_fields do
  redis.call('XADD', stream, '*', unpack(ARGV, at, at + entry_fields - 1))
end
return 1
