-- Remembers what went wrong with clips of a job that were given back, unless the job is gone.
-- KEYS: job
-- ARGV: failure
local job, failure = KEYS[1], ARGV[1]
if redis.call('EXISTS', job) == 1 then redis.call('HSET', job, 'fault', failure) end
