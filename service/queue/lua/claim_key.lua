-- Claims an Idempotency-Key, or returns the value that it has. A key that leads to a deleted job is free: it may have
-- been given the result of a job of another key. The key has the caller's own token where the first reply was lost.
-- KEYS: key
-- ARGV: token, life_ms, job_prefix
local key = KEYS[1]
local token, life_ms, job_prefix = unpack(ARGV, 1, 3)
local value = redis.call('GET', key)
local job = value and value:match('^{"job": "(%w+)"')
local deleted = job and redis.call('HGET', job_prefix .. job, 'finished') == 'cancelled'
if value and value ~= token and not deleted then return value end
redis.call('SET', key, token, 'PX', life_ms)
return false
