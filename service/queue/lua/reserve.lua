-- Reserves capacity for an upload. Returns why it is refused, '' where it is not; then the clips of the model and the
-- bytes that are in flight, the clips ahead of the upload, and the clips and bytes of its caller. In flight is what
-- the streams hold and what is reserved. A caller holds what it has reserved, and the clips without scores of those of
-- its jobs that still have a deadline, which every job has until it ends; those are counted only where they can decide.
-- `instead` is the member that this reservation replaces, or ''. `loose` is what a caller may hold for each clip or
-- byte that is free, or negative for no limit. `models_and_sizes` has model and bytes of a clip for each route,
-- `streams` its two keys.
-- KEYS: reserved, reservations, counts, deadlines, held, held_sums, streams...
-- ARGV: life, member, model, class, size, max_clips, max_bytes, max_ahead, wanted, instead, digest, loose,
--   scores_prefix, models_and_sizes...
-- INCLUDE: now, reservations, held_jobs
local reserved, reservations, counts, deadlines, held, held_sums = unpack(KEYS, 1, 6)
local life, member, model, class, size, max_clips, max_bytes, max_ahead = unpack(ARGV, 1, 8)
local wanted, instead, digest, loose, scores_prefix = unpack(ARGV, 9, 13)
local ahead, bytes = {interactive = 0, bulk = 0}, 0
local mine = {clips = 0, bytes = 0}
for i = 14, #ARGV, 2 do
  local at = 7 + i - 14
  local interactive, bulk = redis.call('XLEN', KEYS[at]), redis.call('XLEN', KEYS[at + 1])
  bytes = bytes + (interactive + bulk) * ARGV[i + 1]
  if ARGV[i] == model then ahead.interactive, ahead.bulk = ahead.interactive + interactive, ahead.bulk + bulk end
end
local function add(one, sign)
  bytes = bytes + sign * one.bytes
  if one.model == model then ahead[one.class] = ahead[one.class] + sign * one.clips end
  if one.caller == digest then
    mine.bytes = mine.bytes + sign * one.bytes
    if one.model == model then mine.clips = mine.clips + sign * one.clips end
  end
end
local function counted()
  return redis.call(
    'HMGET', counts, 'members', 'bytes', 'interactive:' .. model, 'bulk:' .. model, '@' .. digest,
    '@' .. digest .. ':' .. model
  )
end
local all_current = release_lapsed(reservations, counts, reserved, now)
local known = counted()
if tonumber(known[1] or 0) ~= redis.call('ZCARD', reservations) then
  -- Something else than the scripts has changed one of the keys.
  recount(reservations, counts)
  known = counted()
end
bytes = bytes + (known[2] or 0)
ahead.interactive, ahead.bulk = ahead.interactive + (known[3] or 0), ahead.bulk + (known[4] or 0)
mine.bytes, mine.clips = mine.bytes + (known[5] or 0), mine.clips + (known[6] or 0)
if all_current and redis.call('ZCARD', reserved) ~= redis.call('ZCARD', reservations) then
  for _, other in ipairs(redis.call('ZRANGE', reserved, 0, -1)) do
    local one = parts(other)
    if one and not redis.call('ZSCORE', reservations, other) then add(one, 1) end
  end
end
if redis.call('ZSCORE', reservations, member) then add(parts(member), -1) end
if instead ~= '' and instead ~= member and redis.call('ZSCORE', reservations, instead) then add(parts(instead), -1) end
local all, more = ahead.interactive + ahead.bulk, wanted * size
local first = class == 'bulk' and all or ahead.interactive
local function fair(has, taken, further, most)
  return tonumber(loose) < 0 or has == 0 or has + further <= loose * (most - taken - further)
end
local refused = ''
if all + wanted > tonumber(max_clips) then refused = 'clips'
elseif bytes + more > tonumber(max_bytes) then refused = 'bytes'
elseif first + wanted > tonumber(max_ahead) and first > 0 then refused = 'wait'
elseif not (fair(all, all, wanted, max_clips) and fair(bytes, bytes, more, max_bytes)) then
  local clips_of_jobs, bytes_of_jobs = held_jobs(held, held_sums, deadlines, scores_prefix, model)
  mine.clips, mine.bytes = mine.clips + clips_of_jobs, mine.bytes + bytes_of_jobs
  if not fair(mine.clips, all, wanted, max_clips) then refused = 'clips of the caller'
  elseif not fair(mine.bytes, bytes, more, max_bytes) then refused = 'bytes of the caller' end
end
if refused == '' then
  if instead ~= '' then release(reservations, counts, reserved, instead) end
  reserve(reservations, counts, reserved, member, now + life)
end
return {refused, all, bytes, first, mine.clips, mine.bytes}
