"""What a worker does with the clip streams, each step as one Lua script."""

from __future__ import annotations

FIELDS = """
local function fields_of(entry)
  local fields = {}
  for at = 1, #entry[2], 2 do fields[entry[2][at]] = entry[2][at + 1] end
  return fields
end
"""

# What a worker has to know of clips; of a job without scores all of whose clips are among them, its record too.
CLIP_STATE = """
local function clip_states(clips, inline)
  local of_job, facts = {}, {}
  for _, clip in ipairs(clips) do of_job[clip.job] = (of_job[clip.job] or 0) + 1 end
  for i, clip in ipairs(clips) do
    local job = redis.call('HMGET', clip.job, 'total', 'finished', 'fault')
    local whole = tonumber(job[1]) == of_job[clip.job] and redis.call('EXISTS', clip.scores) == 0
    local scored = redis.call('HEXISTS', clip.scores, clip.number)
    local record = whole and redis.call('HGET', clip.job, 'record')
    facts[i] = {inline and redis.call('GET', clip.payload), job[1], job[2], job[3], scored, record}
  end
  return facts
end
"""

# What waits in the first of several streams where something does. Where its clips are small, all that a worker has to
# know of them comes along.
# KEYS: streams. ARGV: group, consumer, most bytes of payloads, what keys of jobs, scores and payloads begin with, then
# the most entries of each stream.
TAKE = (
    FIELDS
    + CLIP_STATE
    + """
local function known(entries)
  local clips, bytes = {}, 0
  for i, entry in ipairs(entries) do
    local fields = fields_of(entry)
    local job, number = fields['job'], fields['clip']
    clips[i] = {
      job = ARGV[4] .. job, scores = ARGV[5] .. job, payload = ARGV[6] .. job .. ':' .. number, number = number
    }
    local size = 1
    for length in fields['shape']:gmatch('%d+') do size = size * length end
    bytes = bytes + size
  end
  return bytes <= tonumber(ARGV[3]) and clip_states(clips, true)
end
for i, key in ipairs(KEYS) do
  local found = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[6 + i], 'STREAMS', key, '>')
  if found then return {i, found[1][2], known(found[1][2])} end
end
return false
"""
)

# KEYS: job, scores and payload of each clip. ARGV: whether payloads are to come along, then the number of each clip.
LOOK_UP = (
    CLIP_STATE
    + """
local clips = {}
for i = 1, #ARGV - 1 do
  clips[i] = {job = KEYS[3 * i - 2], scores = KEYS[3 * i - 1], payload = KEYS[3 * i], number = ARGV[i + 1]}
end
return clip_states(clips, ARGV[1] == '1')
"""
)

# There is no lock around the take-over: of two workers, one finds the entry idle.
# What a worker holds without knowing, and has not given back, was handed to it in an answer that was lost: it gets that
# again, as the delivery that it was.
# Work that was given back without blame goes out as a batch. Work that a worker lost goes out alone, because it may be
# what killed that worker, and clips that keep it company would be blamed for its next victim too.
# ARGV: group, consumer, lease in ms, idle time in ms below which the worker does not know of what it holds (0 where it
# does), most entries, what keys of jobs begin with, then `version:weights` of what this worker serves, where others may
# wait in the stream. An earlier release names the weights in the record alone.
CLAIM = (
    FIELDS
    + """
local most, served = tonumber(ARGV[5]), {}
for i = 7, #ARGV do served[ARGV[i]] = true end
local function wanted(id)
  local entry = #ARGV > 6 and redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then return true end
  local fields = fields_of(entry)
  local record = redis.call('HGET', ARGV[6] .. fields['job'], 'record')
  if not record then return true end
  local weights = fields['weights'] or record:match('"weights_sha256":"(%x*)"')
  return served[fields['version'] .. ':' .. weights]
end
local ids, losses = {}, 0
local function add(id, lost)
  if #ids < most and (#ids == 0 or losses + lost == 0) and wanted(id) then
    ids[#ids + 1] = id
    losses = lost
  end
end
local function unanswered(row)
  return row[2] == ARGV[2] and row[3] < tonumber(ARGV[4])
end
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])) do
  if unanswered(row) then add(row[1], math.max(0, row[4] - 1)) end
end
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1000)) do
  if not unanswered(row) then add(row[1], row[4]) end
end
if #ids == 0 then return {} end
local found, gone = {}, {}
for _, id in ipairs(ids) do gone[id] = true end
ids[#ids + 1] = 'RETRYCOUNT'
ids[#ids + 1] = losses + 1
for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))) do
  if entry and entry[2] then
    found[#found + 1] = {entry[1], losses + 1, entry[2]}
    gone[entry[1]] = nil
  end
end
for id, _ in pairs(gone) do redis.call('XACK', KEYS[1], ARGV[1], id) end
return found
"""
)

# A worker may find out late that its lease ended; it must not take the entry back from the one who has it now.
# ARGV: group, consumer, idle time to set, then the id of each entry and how often it has been delivered from now on.
RENEW_LEASE = """
local held = {}
for i = 4, #ARGV, 2 do
  if redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
    held[#held + 1] = ARGV[i]
  end
end
return held
"""

# XACK alone would free neither entry nor payload. The clips of a dead job are kept for its replay.
# KEYS: stream, then job and payload of each entry. ARGV: group, then the entries.
DISMISS = """
for i = 2, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
  if redis.call('HGET', KEYS[2 * i - 2], 'finished') ~= 'dead' then redis.call('UNLINK', KEYS[2 * i - 1]) end
end
"""

# Deleting a consumer that holds entries would lose them.
DELETE_IDLE_CONSUMERS = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  local meant = facts['name'] == ARGV[2] or (ARGV[2] == '' and facts['idle'] > tonumber(ARGV[3]))
  if meant and facts['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], facts['name'])
  end
end
"""
