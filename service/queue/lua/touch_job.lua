-- Writes a job's time to live as it is. Returns 1, or 0 where the job is gone. WAITAOF waits for the writes of its own
-- connection, so there has to be one. The file is written in order: with this write on disk, the job's clips and
-- entries are. A full Redis allows it, because it needs no memory.
-- KEYS: job
local job = KEYS[1]
local left = redis.call('PTTL', job)
if left < 0 then return 0 end
return redis.call('PEXPIRE', job, left)
