-- Renews reservations whose uploads go on, with the clips that are stored already. One that lapsed meanwhile, because
-- a clock jumped or a process stood still, is back. Of a job in stages the reservation is for the clips that are not
-- queued yet, until it ends. `reservations` has the member, the number of clips and the prefix
-- of their keys for each of `jobs`.
-- KEYS: reserved, reservations, counts, jobs...
-- ARGV: life, reservations...
-- INCLUDE: now, reservations
local reserved, reservations, counts = unpack(KEYS, 1, 3)
local life = ARGV[1]
for i = 4, #KEYS do
  local at = 2 + (i - 4) * 3
  local total, finished, queued = unpack(redis.call('HMGET', KEYS[i], 'total', 'finished', 'queued'))
  if not total or queued and not finished then
    reserve(reservations, counts, reserved, ARGV[at], now + life)
    local first, ms = queued or 0, math.floor(life * 1000)
    for clip = first, first + ARGV[at + 1] - 1 do redis.call('PEXPIRE', ARGV[at + 2] .. clip, ms) end
  end
end
