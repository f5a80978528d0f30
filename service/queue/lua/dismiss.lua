-- Removes entries and their payloads. The clips of a dead job are kept for its replay. `jobs_and_payloads` has the
-- keys of job and payload of each entry.
-- KEYS: stream, jobs_and_payloads...
-- ARGV: group, entries...
local stream, group = KEYS[1], ARGV[1]
for i = 2, #ARGV do
  redis.call('XACK', stream, group, ARGV[i])
  redis.call('XDEL', stream, ARGV[i])
  if redis.call('HGET', KEYS[2 * i - 2], 'finished') ~= 'dead' then redis.call('UNLINK', KEYS[2 * i - 1]) end
end
