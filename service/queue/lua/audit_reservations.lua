-- Counts anew what is reserved, and returns how many of the counts were wrong.
-- KEYS: reservations, counts
-- INCLUDE: reservations
return recount(KEYS[1], KEYS[2])
