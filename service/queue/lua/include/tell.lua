-- Tells those who wait for a job or follow it that clips were 'scored' or that it has 'ended'. Whoever does so has
-- subscribed to the job's channel, except for the process that accepted the job: `ended_prefix` and its `reply_to` name
-- a channel that it always listens on. Processes of the release before listen on one channel for the ends of all jobs
-- and on one for their scores, where nobody else does.
local function tell(news, all_jobs, id, what)
  redis.call('PUBLISH', news, what)
  redis.call('PUBLISH', all_jobs, id)
end
local function tell_end(news, all_jobs, id, ended_prefix, reply_to)
  if reply_to then redis.call('PUBLISH', ended_prefix .. reply_to, id) end
  tell(news, all_jobs, id, 'ended')
end
