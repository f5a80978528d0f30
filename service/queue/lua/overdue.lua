-- Jobs whose deadline has passed, with their deadlines.
-- KEYS: deadlines
-- ARGV: count
-- INCLUDE: now
local deadlines, count = KEYS[1], ARGV[1]
return redis.call('ZRANGEBYSCORE', deadlines, '-inf', now, 'WITHSCORES', 'LIMIT', 0, count)
