-- The announcements of live workers, of models and of routes, and the time of Redis. Every upload needs it: one round
-- trip. The names of routes without an announcement stay, because their streams are still to be cleared.
-- KEYS: workers, models, routes
-- ARGV: worker_prefix, model_prefix, route_prefix
local live = {{}, {}, {}, redis.call('TIME')}
for i, index in ipairs(KEYS) do
  for _, name in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local value = redis.call('GET', ARGV[i] .. name)
    if value then
      table.insert(live[i], value)
    elseif i < 3 then
      redis.call('ZREM', index, name)
    end
  end
end
return live
