-- Renews reservations whose uploads go on, with the clips that are stored already. One that lapsed meanwhile, because
-- a clock jumped or a process stood still, is back. `reservations` has the member, the number of clips and the prefix
-- of their keys for each of `jobs`.
-- KEYS: reserved, reservations, counts, jobs...
-- ARGV: life, reservations...
-- INCLUDE: now, reservations
local reserved, reservations, counts = unpack(KEYS, 1, 3)
local life = ARGV[1]
for i = 4, #KEYS do
  local at = 2 + (i - 4) * 3
  if redis.call('EXISTS', KEYS[i]) == 0 then
    reserve(reservations, counts, reserved, ARGV[at], now + life)
    for clip = 0, ARGV[at + 1] - 1 do redis.call('PEXPIRE', ARGV[at + 2] .. clip, math.floor(life * 1000)) end
  end
end
