-- Stores what a worker says of itself and of its models, and returns the time of Redis. Each value has a key that
-- lives as long as the announcement. Sorted sets hold the names; the times in those of workers and models are read by
-- earlier releases only, which compare them with clocks of their own. `names_and_values` has the name and the value of
-- each worker, then of each model, then of each route.
-- KEYS: workers, models, routes
-- ARGV: life_ms, worker_prefix, model_prefix, route_prefix, worker_count, model_count, route_count,
--   names_and_values...
-- INCLUDE: now
local life_ms = ARGV[1]
local till, at = now + life_ms / 1000, 8
for i, index in ipairs(KEYS) do
  for _ = 1, ARGV[4 + i] do
    redis.call('SET', ARGV[1 + i] .. ARGV[at], ARGV[at + 1], 'PX', life_ms)
    redis.call('ZADD', index, i == 3 and 0 or till, ARGV[at])
    at = at + 2
  end
end
return time
