-- Gives capacity back, and deletes clips that were stored for a job that was not accepted. Where it was accepted all
-- the same, because the reply to accept.lua was lost, the clips are the job's. Of a job in stages those that are queued
-- are.
-- KEYS: reserved, reservations, counts, job
-- ARGV: member, clips, payload_prefix
-- INCLUDE: reservations
local reserved, reservations, counts, job = unpack(KEYS, 1, 4)
local member, clips, payload_prefix = unpack(ARGV, 1, 3)
release(reservations, counts, reserved, member)
local total, queued = unpack(redis.call('HMGET', job, 'total', 'queued'))
if total and not queued then return end
local first = queued or 0
for clip = first, first + clips - 1 do redis.call('UNLINK', payload_prefix .. clip) end
