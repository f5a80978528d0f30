-- Deletes the consumers that are idle for more than `idle_ms`. One that holds entries stays: they would be lost with
-- it. This is as much work as there are consumers.
-- KEYS: stream
-- ARGV: group, idle_ms
local stream, group, idle_ms = KEYS[1], unpack(ARGV, 1, 2)
if redis.call('EXISTS', stream) == 0 then return end
for _, consumer in ipairs(redis.pcall('XINFO', 'CONSUMERS', stream, group)) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  if facts['idle'] > tonumber(idle_ms) and facts['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, facts['name'])
  end
end
