-- The state of each clip, in the order that `state_of` in service/queue/clip_entries.py reads. A job's record is among
-- it where the job has no scores yet and all of its clips are among `clips`.
local function clip_states(clips, inline)
  local of_job, states = {}, {}
  for _, clip in ipairs(clips) do of_job[clip.job] = (of_job[clip.job] or 0) + 1 end
  for i, clip in ipairs(clips) do
    local job = redis.call('HMGET', clip.job, 'total', 'finished', 'fault')
    local complete = tonumber(job[1]) == of_job[clip.job] and redis.call('EXISTS', clip.scores) == 0
    local scored = redis.call('HEXISTS', clip.scores, clip.number)
    local record = complete and redis.call('HGET', clip.job, 'record')
    states[i] = {inline and redis.call('GET', clip.payload), job[1], job[2], job[3], scored, record}
  end
  return states
end
