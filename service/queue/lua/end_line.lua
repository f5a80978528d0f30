-- Ends a line of a batch, once: a line that has ended keeps its outcome. Returns the job that was running for it, ''
-- without one, or false where the line had ended or the batch is gone. Called again, because its reply was lost, it
-- returns the job again where `call` names this one. With its last line the batch has ended, and lives for `life` from
-- then on; where something is left to be done then, it stays among the open ones.
-- KEYS: batch, lines, outcomes, running, ended, batches, open_batches
-- ARGV: id, line, outcome, status, life, call
-- INCLUDE: now
local batch, lines, outcomes, running, ended, batches, open_batches = unpack(KEYS, 1, 7)
local id, line, outcome, status, life, call = unpack(ARGV, 1, 6)
if redis.call('EXISTS', batch) == 0 then return false end
if redis.call('HEXISTS', outcomes, line) == 1 then
  local ended_by, its_job = (redis.call('HGET', outcomes, 'call:' .. line) or ''):match('^(%w+) (%w*)$')
  return ended_by == call and its_job
end
redis.call('HSET', outcomes, line, outcome)
local job = redis.call('HGET', running, line)
if call ~= '' then redis.call('HSET', outcomes, 'call:' .. line, call .. ' ' .. (job or '')) end
redis.call('HDEL', running, line)
redis.call('ZADD', ended, redis.call('ZCARD', ended), line)
redis.call('HINCRBY', batch, status, 1)
local left_ms = redis.call('PTTL', batch)
if redis.call('HINCRBY', batch, 'left', -1) == 0 then
  left_ms = life * 1000
  redis.call('HSET', batch, 'ended_at', string.format('%.6f', now))
  if redis.call('HEXISTS', batch, 'closing') == 0 then
    redis.call('ZREM', batches, id)
    redis.call('ZREM', open_batches, id)
  end
end
for _, key in ipairs({batch, lines, outcomes, running, ended}) do redis.call('PEXPIRE', key, left_ms) end
return job or ''
