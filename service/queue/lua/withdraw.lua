-- Deletes the announcement of a worker.
-- KEYS: workers, fleet, shares, sums, status
-- ARGV: worker
-- INCLUDE: fleet
local workers, fleet, shares, sums, status = unpack(KEYS, 1, 5)
leave(fleet, shares, sums, workers, ARGV[1])
redis.call('DEL', status)
