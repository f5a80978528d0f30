-- Deletes reservations, but no clips.
-- KEYS: reserved, reservations, counts
-- ARGV: members...
-- INCLUDE: reservations
local reserved, reservations, counts = unpack(KEYS, 1, 3)
for _, member in ipairs(ARGV) do release(reservations, counts, reserved, member) end
