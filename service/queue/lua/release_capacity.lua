-- Gives capacity back, and deletes clips that were stored for a job that was not accepted. Where it was accepted all
-- the same, because the reply to accept.lua was lost, the clips are the job's.
-- KEYS: reserved, reservations, counts, job
-- ARGV: member, clips, payload_prefix
-- INCLUDE: reservations
local reserved, reservations, counts, job = unpack(KEYS, 1, 4)
local member, clips, payload_prefix = unpack(ARGV, 1, 3)
release(reservations, counts, reserved, member)
if redis.call('EXISTS', job) == 1 then return end
for clip = 0, clips - 1 do redis.call('UNLINK', payload_prefix .. clip) end
