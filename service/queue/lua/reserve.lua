-- Reserves capacity for an upload. Returns why it is refused, '' where it is not; then the clips of the model and the
-- bytes that are in flight, the clips ahead of the upload, and the clips and bytes of its caller. In flight is what
-- the streams hold and what is reserved: nothing is counted up and down, so nothing drifts. A caller holds what it has
-- reserved, and the clips without scores of those of its jobs that still have a deadline, which every job has until it
-- ends. That is counted only where it can decide. `instead` is the member that this reservation replaces, or ''.
-- `loose` is what a caller may hold for each clip or byte that is free, or negative for no limit. `models_and_sizes`
-- has model and bytes of a clip for each route, `streams` its two keys.
-- KEYS: reserved, deadlines, held, streams...
-- ARGV: life, member, model, class, size, max_clips, max_bytes, max_ahead, wanted, instead, digest, loose,
--   scores_prefix, models_and_sizes...
-- INCLUDE: now
local reserved, deadlines, held = unpack(KEYS, 1, 3)
local life, member, model, class, size, max_clips, max_bytes, max_ahead = unpack(ARGV, 1, 8)
local wanted, instead, digest, loose, scores_prefix = unpack(ARGV, 9, 13)
redis.call('ZREMRANGEBYSCORE', reserved, '-inf', now)
local ahead, bytes = {interactive = 0, bulk = 0}, 0
local mine = {clips = 0, bytes = 0}
for i = 14, #ARGV, 2 do
  local at = 4 + i - 14
  local interactive, bulk = redis.call('XLEN', KEYS[at]), redis.call('XLEN', KEYS[at + 1])
  bytes = bytes + (interactive + bulk) * ARGV[i + 1]
  if ARGV[i] == model then ahead.interactive, ahead.bulk = ahead.interactive + interactive, ahead.bulk + bulk end
end
for _, other in ipairs(redis.call('ZRANGE', reserved, 0, -1)) do
  local id, of_class, count, each, of_model = other:match('^(%w+):(%a+):(%d+):(%d+):(.+)$')
  if id and other ~= instead and other ~= member then
    bytes = bytes + count * each
    if of_model == model then ahead[of_class] = ahead[of_class] + count end
    if id:match('x(%x+)$') == digest then
      mine.bytes = mine.bytes + count * each
      if of_model == model then mine.clips = mine.clips + count end
    end
  end
end
local all, more = ahead.interactive + ahead.bulk, wanted * size
local first = class == 'bulk' and all or ahead.interactive
local function fair(has, taken, further, most)
  return tonumber(loose) < 0 or has == 0 or has + further <= loose * (most - taken - further)
end
local function hold_jobs()
  for _, job in ipairs(redis.call('ZRANGE', held, 0, -1)) do
    local id, count, each, of_model = job:match('^(%w+):(%d+):(%d+):(.+)$')
    if redis.call('ZSCORE', deadlines, id) then
      local left = math.max(0, count - redis.call('HLEN', scores_prefix .. id))
      mine.bytes = mine.bytes + left * each
      if of_model == model then mine.clips = mine.clips + left end
    else
      redis.call('ZREM', held, job)
    end
  end
end
local refused = ''
if all + wanted > tonumber(max_clips) then refused = 'clips'
elseif bytes + more > tonumber(max_bytes) then refused = 'bytes'
elseif first + wanted > tonumber(max_ahead) and first > 0 then refused = 'wait'
elseif not (fair(all, all, wanted, max_clips) and fair(bytes, bytes, more, max_bytes)) then
  hold_jobs()
  if not fair(mine.clips, all, wanted, max_clips) then refused = 'clips of the caller'
  elseif not fair(mine.bytes, bytes, more, max_bytes) then refused = 'bytes of the caller' end
end
if refused == '' then
  if instead ~= '' then redis.call('ZREM', reserved, instead) end
  redis.call('ZADD', reserved, now + life, member)
end
return {refused, all, bytes, first, mine.clips, mine.bytes}
