-- Clips without scores of the jobs of a caller that have not ended, and their bytes. Of a caller with many jobs the
-- sums are kept for a while: counting takes about a microsecond for each job, and is done for a fiftieth of the time at
-- most. accept.lua adds to sums that are kept; what was scored or ended meanwhile is still among them.
local FEW_JOBS, JOBS_PER_MS = 64, 20
local function count_held(held, deadlines, scores_prefix)
  local jobs = redis.call('ZRANGE', held, 0, -1)
  local sums, bytes = {}, 0
  for _, job in ipairs(jobs) do
    local id, count, each, of_model = job:match('^(%w+):(%d+):(%d+):(.+)$')
    if redis.call('ZSCORE', deadlines, id) then
      local left = math.max(0, count - redis.call('HLEN', scores_prefix .. id))
      bytes = bytes + left * each
      sums[of_model] = (sums[of_model] or 0) + left
    else
      redis.call('ZREM', held, job)
    end
  end
  return #jobs, bytes, sums
end
local function held_jobs(held, held_sums, deadlines, scores_prefix, model)
  local kept = redis.call('HMGET', held_sums, 'bytes', '=' .. model)
  if kept[1] then return tonumber(kept[2] or 0), tonumber(kept[1]) end
  local jobs, bytes, sums = count_held(held, deadlines, scores_prefix)
  if jobs > FEW_JOBS then
    redis.call('HSET', held_sums, 'bytes', string.format('%.0f', bytes))
    for of_model, clips in pairs(sums) do redis.call('HSET', held_sums, '=' .. of_model, clips) end
    redis.call('PEXPIRE', held_sums, math.ceil(jobs / JOBS_PER_MS))
  end
  return sums[model] or 0, bytes
end
