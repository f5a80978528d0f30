"""What happens to room in the queue, each step as one Lua script. The clock is the server's: hosts may disagree."""

from __future__ import annotations

from service.queue.clock import NOW

# What is in flight is the streams themselves plus what is reserved: nothing is counted up and down, so nothing drifts.
# What a caller has in flight is what it has reserved, plus the clips that are not scored yet of those of its jobs that
# have a deadline still, which every job has until it ends. It is counted only where it can matter.
# KEYS: reservations, deadlines, jobs that the caller holds, then two streams for each route.
# ARGV: life of the reservation, its member, model, class, clips that are reserved, bytes of one clip, most clips, most
# bytes, most clips ahead, most clips that the upload may come to, member that this one replaces, the caller's digest,
# what a caller may hold for each one that is free (negative for no limit), what the keys of scores begin with, then
# model and clip bytes of each route.
RESERVE = (
    NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local ahead, bytes = {interactive = 0, bulk = 0}, 0
local mine = {clips = 0, bytes = 0}
for i = 15, #ARGV, 2 do
  local at = 4 + i - 15
  local interactive, bulk = redis.call('XLEN', KEYS[at]), redis.call('XLEN', KEYS[at + 1])
  bytes = bytes + (interactive + bulk) * ARGV[i + 1]
  if ARGV[i] == ARGV[3] then ahead.interactive, ahead.bulk = ahead.interactive + interactive, ahead.bulk + bulk end
end
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local id, class, clips, size, model = member:match('^(%w+):(%a+):(%d+):(%d+):(.+)$')
  if id and member ~= ARGV[11] and member ~= ARGV[2] then
    bytes = bytes + clips * size
    if model == ARGV[3] then ahead[class] = ahead[class] + clips end
    if id:match('x(%x+)$') == ARGV[12] then
      mine.bytes = mine.bytes + clips * size
      if model == ARGV[3] then mine.clips = mine.clips + clips end
    end
  end
end
local wanted, size, all = tonumber(ARGV[10]), tonumber(ARGV[6]), ahead.interactive + ahead.bulk
local first = ARGV[4] == 'bulk' and all or ahead.interactive
local loose = tonumber(ARGV[13])
local function fair(held, taken, more, most)
  return loose < 0 or held == 0 or held + more <= loose * (most - taken - more)
end
local function hold_jobs()
  for _, job in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    local id, clips, each, model = job:match('^(%w+):(%d+):(%d+):(.+)$')
    if redis.call('ZSCORE', KEYS[2], id) then
      local left = math.max(0, clips - redis.call('HLEN', ARGV[14] .. id))
      mine.bytes = mine.bytes + left * each
      if model == ARGV[3] then mine.clips = mine.clips + left end
    else
      redis.call('ZREM', KEYS[3], job)
    end
  end
end
local most_clips, most_bytes = tonumber(ARGV[7]), tonumber(ARGV[8])
local refused = ''
if all + wanted > most_clips then refused = 'clips'
elseif bytes + wanted * size > most_bytes then refused = 'bytes'
elseif first + wanted > tonumber(ARGV[9]) and first > 0 then refused = 'wait'
elseif not (fair(all, all, wanted, most_clips) and fair(bytes, bytes, wanted * size, most_bytes)) then
  hold_jobs()
  if not fair(mine.clips, all, wanted, most_clips) then refused = 'clips of the caller'
  elseif not fair(mine.bytes, bytes, wanted * size, most_bytes) then refused = 'bytes of the caller' end
end
if refused == '' then
  if ARGV[11] ~= '' then redis.call('ZREM', KEYS[1], ARGV[11]) end
  redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
end
return {refused, all, bytes, first, mine.clips, mine.bytes}
"""
)

# Clips that were stored for a job that was not accepted go with its room. Where it was accepted all the same, because
# the answer to ACCEPT was lost, they are the job's.
# KEYS: reservations, job. ARGV: member, number of clips, what the keys of its clips begin with.
RELEASE = """
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then return end
for clip = 0, ARGV[2] - 1 do redis.call('UNLINK', ARGV[3] .. clip) end
"""

# A reservation that lapsed while its upload went on, for a clock that jumped or a process that stood still, is back.
# KEYS: reservations, then the jobs. ARGV: life, then for each job its member, the number of its clips, and what the
# keys of those begin with that may be stored already.
RENEW = (
    NOW
    + """
for i = 2, #KEYS do
  local at = 2 + (i - 2) * 3
  if redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[at])
    for clip = 0, ARGV[at + 1] - 1 do redis.call('PEXPIRE', ARGV[at + 2] .. clip, math.floor(ARGV[1] * 1000)) end
  end
end
"""
)
