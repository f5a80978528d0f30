-- Commits a job: its record, its clips and its stream entries. Returns 1, 0 where its Idempotency-Key went to another
-- request, or -1 where clips are gone. Called again, because its reply was lost, it returns 1 again: the job is there.
-- A request whose Idempotency-Key went to another must not make a second job; one whose key lapsed may, unless another
-- has it. Nor may there be a job without its clips: clips that were stored before expire with their reservation, unless
-- the job is accepted. The caller holds the job from now on, until it ends. The empty ones of `payloads` were stored
-- before. `claim` has no element where there is no Idempotency-Key. Of a job in stages the first clips come here, and
-- the others by add_clips.lua: `left` is the reservation that stays for them, else ''.
-- KEYS: job, stream, deadlines, reserved, reservations, counts, held, held_sums, events, jobs, routes,
--   payload_keys..., claim...
-- ARGV: token, claimed, claim_life, job_life, id, deadline, reservation, left, job_fields, entry_fields, payload_life,
--   place, oldest_place, route, payload_count, payloads..., fields...
-- INCLUDE: event, reservations, hold
local job, stream, deadlines, reserved, reservations, counts, held, held_sums = unpack(KEYS, 1, 8)
local events, jobs, routes = unpack(KEYS, 9, 11)
local token, claimed, claim_life, job_life, id, deadline, reservation = unpack(ARGV, 1, 7)
local left, job_fields, entry_fields, payload_life, place, oldest_place = unpack(ARGV, 8, 13)
local route, payload_count = unpack(ARGV, 14, 15)
local claim, fields = KEYS[#KEYS], 16 + payload_count
if redis.call('EXISTS', job) == 1 then return 1 end
for i = 1, payload_count do
  if ARGV[15 + i] == '' and redis.call('EXISTS', KEYS[11 + i]) == 0 then return -1 end
end
if token ~= '' then
  local holder = redis.call('GET', claim)
  if holder and holder ~= token then return 0 end
  redis.call('SET', claim, claimed, 'EX', claim_life)
end
redis.call('HSET', job, unpack(ARGV, fields, fields + job_fields - 1))
for i = 1, payload_count do
  if ARGV[15 + i] == '' then redis.call('EXPIRE', KEYS[11 + i], payload_life)
  else redis.call('SET', KEYS[11 + i], ARGV[15 + i], 'EX', payload_life) end
end
redis.call('EXPIRE', job, job_life)
redis.call('ZADD', deadlines, deadline, id)
if reservation ~= '' then shrink(reservations, counts, reserved, reservation, left) end
redis.call('ZADD', routes, 0, route)
local clips = (#ARGV - fields - job_fields + 1) / entry_fields
hold(job, held, held_sums, id, deadline, reservation, 0, clips, job_life)
for first = fields + job_fields, #ARGV, entry_fields do
  redis.call('XADD', stream, '*', unpack(ARGV, first, first + entry_fields - 1))
end
event(events, payload_life, 'queued', 0)
redis.call('ZADD', jobs, 0, place)
redis.call('ZREMRANGEBYLEX', jobs, '-', '(' .. oldest_place)
redis.call('EXPIRE', jobs, job_life)
return 1
