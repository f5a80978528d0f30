-- Delivers entries again that another worker gave back or lost. No lock is needed: of two workers one finds an entry
-- idle. Entries that this worker holds without knowing, and has not given back, were in a reply that was lost: it gets
-- them again, as the same delivery. `unknown_ms` is the idle time below which the worker does not know of an entry
-- that it holds; 0 where it knows all of them. Entries that were given back without a failure are delivered as a
-- batch. An entry that a worker lost is delivered alone: it may have killed that worker, and other clips of its batch
-- would count as failed with its next victim. `served` has `version:weights` of each model that this worker serves;
-- where it is empty the worker serves the whole stream. An earlier release names the weights in the job's record only.
-- Of a long stream each look goes through a part, and the next look of any worker through the next part.
-- KEYS: stream, looked_through
-- ARGV: group, consumer, lease_ms, unknown_ms, count, job_prefix, served...
-- INCLUDE: fields_of
local stream, looked_through = KEYS[1], KEYS[2]
local group, consumer, lease_ms, unknown_ms, count, job_prefix = unpack(ARGV, 1, 6)
local SHORT, PART = 1000, 200
local served = {}
for i = 7, #ARGV do served[ARGV[i]] = true end
local function wanted(id)
  local entry = #ARGV > 6 and redis.call('XRANGE', stream, id, id)[1]
  if not entry then return true end
  local fields = fields_of(entry)
  local record = redis.call('HGET', job_prefix .. fields['job'], 'record')
  if not record then return true end
  local weights = fields['weights'] or record:match('"weights_sha256":"(%x*)"')
  return served[fields['version'] .. ':' .. weights]
end
local ids, losses = {}, 0
local function add(id, lost)
  if #ids < tonumber(count) and (#ids == 0 or losses + lost == 0) and wanted(id) then
    ids[#ids + 1] = id
    losses = lost
  end
end
local function unanswered(row)
  return row[2] == consumer and row[3] < tonumber(unknown_ms)
end
for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', 1000, consumer)) do
  if unanswered(row) then add(row[1], math.max(0, row[4] - 1)) end
end
local function idle()
  if redis.call('XLEN', stream) <= SHORT then
    return redis.call('XPENDING', stream, group, 'IDLE', lease_ms, '-', '+', SHORT)
  end
  local rows = redis.call('XPENDING', stream, group, redis.call('GET', looked_through) or '-', '+', PART)
  if #rows == PART then redis.call('SET', looked_through, '(' .. rows[PART][1], 'EX', 60)
  else redis.call('DEL', looked_through) end
  return rows
end
for _, row in ipairs(idle()) do
  if row[3] >= tonumber(lease_ms) and not unanswered(row) then add(row[1], row[4]) end
end
if #ids == 0 then return {} end
local found, gone = {}, {}
for _, id in ipairs(ids) do gone[id] = true end
ids[#ids + 1] = 'RETRYCOUNT'
ids[#ids + 1] = losses + 1
for _, entry in ipairs(redis.call('XCLAIM', stream, group, consumer, 0, unpack(ids))) do
  if entry and entry[2] then
    found[#found + 1] = {entry[1], losses + 1, entry[2]}
    gone[entry[1]] = nil
  end
end
for id, _ in pairs(gone) do redis.call('XACK', stream, group, id) end
return found
