-- Sets the idle time and the number of deliveries of entries that a worker still holds, and returns their ids. A
-- worker may learn late that its lease has ended: it must not take the entry from the worker that has it now.
-- `ids_and_deliveries` has the id and the number of deliveries of each entry.
-- KEYS: stream
-- ARGV: group, consumer, idle_ms, ids_and_deliveries...
local stream, group, consumer, idle_ms = KEYS[1], unpack(ARGV, 1, 3)
local held = {}
for i = 4, #ARGV, 2 do
  if redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1, consumer)[1] then
    redis.call('XCLAIM', stream, group, consumer, 0, ARGV[i], 'IDLE', idle_ms, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
    held[#held + 1] = ARGV[i]
  end
end
return held
