-- A job counts towards the share of its caller with the clips that are queued, `more` of them now. `reservation` names
-- the caller, the bytes of a clip and the model; without a caller nothing is counted.
local function hold(job, held, held_sums, id, deadline, reservation, before, more, life)
  local caller, each, model = reservation:match('^%w+x(%x+):%a+:%d+:(%d+):(.+)$')
  if not caller then return end
  local holds = string.format('%d', before + more) .. ':' .. each .. ':' .. model
  redis.call('HSET', job, 'holds', caller .. ':' .. holds)
  if before > 0 then
    redis.call('ZREM', held, id .. ':' .. string.format('%d', before) .. ':' .. each .. ':' .. model)
  end
  redis.call('ZADD', held, deadline, id .. ':' .. holds)
  redis.call('EXPIRE', held, life)
  if redis.call('EXISTS', held_sums) == 1 then
    redis.call('HINCRBY', held_sums, 'bytes', more * each)
    redis.call('HINCRBY', held_sums, '=' .. model, more)
  end
end
