-- What live workers serve: announcements of models and of routes, the sums over the workers, when engines that are away
-- are tried again, the announcements of workers of the release before, which are in no sum, and the time of Redis. The
-- names of routes without an announcement stay, because their streams are still to be cleared.
-- KEYS: workers, models, routes, fleet, shares, sums, retries
-- ARGV: worker_prefix, model_prefix, route_prefix
-- INCLUDE: now, fleet
local workers, models, routes, fleet, shares, sums, retries = unpack(KEYS, 1, 7)
local worker_prefix, model_prefix, route_prefix = unpack(ARGV, 1, 3)
local function announced(index, prefix, forget)
  local found = {}
  for _, name in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local value = redis.call('GET', prefix .. name)
    if value then found[#found + 1] = value elseif forget then redis.call('ZREM', index, name) end
  end
  return found
end
local function others()
  local found = {}
  if redis.call('ZCARD', workers) == redis.call('ZCARD', fleet) then return found end
  for _, name in ipairs(redis.call('ZRANGE', workers, 0, -1)) do
    if not redis.call('ZSCORE', fleet, name) then
      local value = redis.call('GET', worker_prefix .. name)
      if value then found[#found + 1] = value else redis.call('ZREM', workers, name) end
    end
  end
  return found
end
leave_lapsed(fleet, shares, sums, workers, now)
check_sums(fleet, shares, sums)
return {
  announced(models, model_prefix, true),
  announced(routes, route_prefix, false),
  redis.call('HGETALL', sums),
  redis.call('HGETALL', retries),
  others(),
  time,
}
