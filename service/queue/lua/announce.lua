-- Stores what a worker says of itself and of its models, and returns the time of Redis and the number of live
-- workers. Each value has a key that lives as long as the announcement. Sorted sets hold the names; the times in those
-- of workers and models are read by earlier releases only, which compare them with clocks of their own.
-- `names_and_values` has the name and the value of each worker, then of each model, then of each route. `share` is what
-- the worker adds to the sums. `open` names what an engine is away for that is tried again in `retry_in_s`.
-- KEYS: workers, models, routes, fleet, shares, sums, retries
-- ARGV: life_ms, worker_prefix, model_prefix, route_prefix, worker_count, model_count, route_count, worker, share,
--   retry_in_s, names_and_values..., open...
-- INCLUDE: now, fleet
local workers, models, routes, fleet, shares, sums, retries = unpack(KEYS, 1, 7)
local life_ms, worker, share, retry_in_s = ARGV[1], unpack(ARGV, 8, 10)
local till, at = now + life_ms / 1000, 11
for i, index in ipairs({workers, models, routes}) do
  for _ = 1, ARGV[4 + i] do
    redis.call('SET', ARGV[1 + i] .. ARGV[at], ARGV[at + 1], 'PX', life_ms)
    redis.call('ZADD', index, i == 3 and 0 or till, ARGV[at])
    at = at + 2
  end
end
join(fleet, shares, sums, worker, share, till)
for i = at, #ARGV do redis.call('HSET', retries, ARGV[i], string.format('%.3f', now + retry_in_s)) end
if at <= #ARGV then redis.call('PEXPIRE', retries, life_ms) end
return {time[1], time[2], redis.call('ZCARD', workers)}
