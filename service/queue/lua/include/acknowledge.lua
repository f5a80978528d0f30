-- Removes the stream entries whose ids are in ARGV from `first` on. XACK alone would leave them in the stream.
local function acknowledge(stream, group, first)
  for i = first, #ARGV do
    redis.call('XACK', stream, group, ARGV[i])
    redis.call('XDEL', stream, ARGV[i])
  end
end
