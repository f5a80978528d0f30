-- Deletes the consumer with a name, or with an empty name all that are idle for more than `idle_ms`. One that holds
-- entries stays: they would be lost with it.
-- KEYS: stream
-- ARGV: group, name, idle_ms
local stream, group, name, idle_ms = KEYS[1], unpack(ARGV, 1, 3)
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  local meant = facts['name'] == name or (name == '' and facts['idle'] > tonumber(idle_ms))
  if meant and facts['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, facts['name'])
  end
end
