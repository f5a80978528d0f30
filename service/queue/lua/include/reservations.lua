-- Reservations, each with the time at which it lapses, and how much is reserved: `counts` has the bytes, the clips of
-- each class and model, the bytes of each caller, and its clips of each model. It changes with the reservations in one
-- step, so that a look costs the same however many there are. The release before writes and reads `reserved` alone:
-- ours stand there too, and what stands there alone is of processes of that release.
local LAPSED_AT_ONCE = 100
local function parts(member)
  local holder, class, clips, each, model = member:match('^(%w+):(%a+):(%d+):(%d+):(.+)$')
  if not holder then return nil end
  return {class = class, clips = clips, bytes = clips * each, model = model, caller = holder:match('x(%x+)$')}
end
local function fields_of_counts(member, add)
  local one = parts(member)
  if not one then return end
  add('members', 1)
  add('bytes', one.bytes)
  add(one.class .. ':' .. one.model, one.clips)
  if one.caller then
    add('@' .. one.caller, one.bytes)
    add('@' .. one.caller .. ':' .. one.model, one.clips)
  end
end
-- Counts of callers go when they are 0: there may be any number of callers. Their names begin with an @.
local function count(counts, member, sign)
  fields_of_counts(member, function(field, amount)
    local left = redis.call('HINCRBY', counts, field, sign * amount)
    if left == 0 and field:byte() == 64 then redis.call('HDEL', counts, field) end
  end)
end
local function reserve(reservations, counts, reserved, member, lapses)
  if redis.call('ZADD', reservations, lapses, member) == 1 then count(counts, member, 1) end
  redis.call('ZADD', reserved, lapses, member)
end
local function release(reservations, counts, reserved, member)
  redis.call('ZREM', reserved, member)
  if redis.call('ZREM', reservations, member) == 1 then count(counts, member, -1) end
end
-- Makes a reservation a smaller one, or nothing where `left` is ''. It lapses when it would have; one that has lapsed
-- is back with its next renewal.
local function shrink(reservations, counts, reserved, member, left)
  local lapses = left ~= '' and redis.call('ZSCORE', reservations, member)
  release(reservations, counts, reserved, member)
  if lapses then reserve(reservations, counts, reserved, left, lapses) end
end
-- Releases what has lapsed, so many at a time that a call stays short where a whole fleet has died. Returns whether
-- nothing that has lapsed is left.
local function release_lapsed(reservations, counts, reserved, now)
  local lapsed = redis.call('ZRANGEBYSCORE', reservations, '-inf', now, 'LIMIT', 0, LAPSED_AT_ONCE)
  for _, member in ipairs(lapsed) do release(reservations, counts, reserved, member) end
  if #lapsed == LAPSED_AT_ONCE then return false end
  redis.call('ZREMRANGEBYSCORE', reserved, '-inf', now)
  return true
end
-- Counts anew, and returns how many of the counts were wrong.
local function recount(reservations, counts)
  local right, wrong = {}, 0
  for _, member in ipairs(redis.call('ZRANGE', reservations, 0, -1)) do
    fields_of_counts(member, function(field, amount) right[field] = (right[field] or 0) + amount end)
  end
  local found = redis.call('HGETALL', counts)
  for i = 1, #found, 2 do
    if not right[found[i]] and found[i + 1] ~= '0' then
      wrong = wrong + 1
      redis.call('HDEL', counts, found[i])
    elseif tonumber(found[i + 1]) == right[found[i]] then
      right[found[i]] = nil
    end
  end
  for field, amount in pairs(right) do
    wrong = wrong + 1
    redis.call('HSET', counts, field, string.format('%.0f', amount))
  end
  return wrong
end
