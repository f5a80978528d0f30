-- Deletes what was kept for a replay. The job stays failed, unless it was replayed or erased meanwhile.
local function discard_kept(prefixes, id)
  local job = prefixes.job .. id
  if redis.call('HGET', job, 'finished') == 'dead' then
    redis.call('HSET', job, 'finished', '1')
    for clip = 0, redis.call('HGET', job, 'total') - 1 do
      redis.call('UNLINK', prefixes.clip .. id .. ':' .. clip)
    end
    redis.call('UNLINK', prefixes.letter .. id, prefixes.scores .. id)
  end
end
