-- The live workers: `fleet` has them by when their announcements lapse, `shares` what each adds to `sums`, a line for
-- each name and one for each number. The sums change with the workers in one step, so that reading them costs the same
-- however many there are. The release before writes and reads `workers` alone: ours are there too, and those that are
-- there alone are of that release.
local LAPSED_AT_ONCE = 100
local function add_share(sums, share, sign)
  for name, amount in share:gmatch('([^\n]+)\n(%d+)') do
    if redis.call('HINCRBY', sums, name, sign * amount) == 0 then redis.call('HDEL', sums, name) end
  end
end
local function join(fleet, shares, sums, worker, share, lapses)
  redis.call('ZADD', fleet, lapses, worker)
  local before = redis.call('HGET', shares, worker)
  if before == share then return end
  if before then add_share(sums, before, -1) end
  redis.call('HSET', shares, worker, share)
  add_share(sums, share, 1)
end
local function leave(fleet, shares, sums, workers, worker)
  redis.call('ZREM', workers, worker)
  redis.call('ZREM', fleet, worker)
  local share = redis.call('HGET', shares, worker)
  if share then
    redis.call('HDEL', shares, worker)
    add_share(sums, share, -1)
  end
end
local function leave_lapsed(fleet, shares, sums, workers, now)
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', fleet, '-inf', now, 'LIMIT', 0, LAPSED_AT_ONCE)) do
    leave(fleet, shares, sums, workers, worker)
  end
end
-- Adds all shares up again where something else than the scripts has changed one of the keys.
local function check_sums(fleet, shares, sums)
  if tonumber(redis.call('HGET', sums, 'workers') or 0) == redis.call('ZCARD', fleet) then return end
  redis.call('DEL', sums)
  local found = redis.call('HGETALL', shares)
  for i = 2, #found, 2 do add_share(sums, found[i], 1) end
end
