-- Deletes the streams of routes that no worker reads any more: entries of jobs that have ended would stay there for
-- ever. Looks at `count` entries of a stream at a time. A stream's key is `stream_prefix`, route, ':' and one of
-- `classes`.
-- KEYS: models, routes
-- ARGV: model_prefix, route_prefix, stream_prefix, job_prefix, count, classes...
-- INCLUDE: fields_of
local models, routes, model_prefix, route_prefix = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local stream_prefix, job_prefix, count = unpack(ARGV, 3, 5)
local read = {}
for _, version in ipairs(redis.call('ZRANGE', models, 0, -1)) do
  if redis.call('EXISTS', model_prefix .. version) == 1 then read[version:match('[^:]+')] = true end
end
local function left_of(stream)
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', count)) do
    if redis.call('HEXISTS', job_prefix .. fields_of(entry)['job'], 'record') == 0 then
      redis.call('XDEL', stream, entry[1])
    end
  end
  return redis.call('XLEN', stream)
end
for _, route in ipairs(redis.call('ZRANGE', routes, 0, -1)) do
  if redis.call('EXISTS', route_prefix .. route) == 0 and not read[route] then
    local left = 0
    for i = 6, #ARGV do
      local stream = stream_prefix .. route .. ':' .. ARGV[i]
      local entries = left_of(stream)
      if entries == 0 then redis.call('UNLINK', stream) end
      left = left + entries
    end
    if left == 0 then redis.call('ZREM', routes, route) end
  end
end
