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
FACTS = """
local function facts_of(clips, inline)
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
    + FACTS
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
  return bytes <= tonumber(ARGV[3]) and facts_of(clips, true)
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
    FACTS
    + """
local clips = {}
for i = 1, #ARGV - 1 do
  clips[i] = {job = KEYS[3 * i - 2], scores = KEYS[3 * i - 1], payload = KEYS[3 * i], number = ARGV[i + 1]}
end
return facts_of(clips, ARGV[1] == '1')
"""
)

# There is no lock around the take-over: XCLAIM itself checks the idle time, so of two workers one gets the entry.
# Work that was given back without blame goes out as a batch. Work that a worker lost goes out alone, because it may be
# what killed that worker, and clips that keep it company would be blamed for its next victim too.
# ARGV: group, consumer, lease in ms, most entries, what keys of jobs begin with, then `version:weights` of what this
# worker serves, where others may wait in the stream. An earlier release names the weights in the record alone.
CLAIM = (
    FIELDS
    + """
local most, served = tonumber(ARGV[4]), {}
for i = 6, #ARGV do served[ARGV[i]] = true end
local function wanted(id)
  local entry = #ARGV > 5 and redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then return true end
  local fields = fields_of(entry)
  local record = redis.call('HGET', ARGV[5] .. fields['job'], 'record')
  if not record then return true end
  local weights = fields['weights'] or record:match('"weights_sha256":"(%x*)"')
  return served[fields['version'] .. ':' .. weights]
end
local ids, counts = {}, {}
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1000)) do
  if #ids < most and (row[4] == 0 or #ids == 0) and wanted(row[1]) then
    ids[#ids + 1] = row[1]
    counts[row[1]] = row[4] + 1
    if row[4] > 0 then break end
  end
end
if #ids == 0 then return {} end
local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], unpack(ids))
local found = {}
for _, entry in ipairs(claimed) do
  if entry and entry[2] then
    found[#found + 1] = {entry[1], counts[entry[1]], entry[2]}
    counts[entry[1]] = nil
  end
end
for id, _ in pairs(counts) do redis.call('XACK', KEYS[1], ARGV[1], id) end
return found
"""
)

# A worker may find out late that its lease ended; it must not take the entry back from the one who has it now.
# ARGV: group, consumer, idle time to set, how much to take off the delivery count, ids.
HOLD = """
local held = {}
for i = 5, #ARGV do
  local row = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
  if row then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3],
      'RETRYCOUNT', math.max(0, row[4] - ARGV[4]), 'JUSTID')
    held[#held + 1] = ARGV[i]
  end
end
return held
"""

# Deleting a consumer that holds entries would lose them.
LEAVE = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  local meant = facts['name'] == ARGV[2] or (ARGV[2] == '' and facts['idle'] > tonumber(ARGV[3]))
  if meant and facts['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], facts['name'])
  end
end
"""
