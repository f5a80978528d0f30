-- Delivers entries of the first of several streams that has any, at most as many as `counts` says for it. Returns the
-- number of the stream, the entries, and the states of their clips where the payloads have at most `max_bytes` in all,
-- and each entry has one of its own: a payload that several share is to be fetched once.
-- KEYS: streams...
-- ARGV: group, consumer, max_bytes, job_prefix, scores_prefix, clip_prefix, counts...
-- INCLUDE: fields_of, clip_states
local group, consumer, max_bytes, job_prefix, scores_prefix, clip_prefix = unpack(ARGV, 1, 6)
local function prefetched(entries)
  local clips, bytes = {}, 0
  for i, entry in ipairs(entries) do
    local fields = fields_of(entry)
    local job, number = fields['job'], fields['clip']
    if fields['view'] then return false end
    clips[i] = {
      job = job_prefix .. job,
      scores = scores_prefix .. job,
      payload = clip_prefix .. job .. ':' .. number,
      number = number,
    }
    local size = 1
    for length in fields['shape']:gmatch('%d+') do size = size * length end
    bytes = bytes + size
  end
  return bytes <= tonumber(max_bytes) and clip_states(clips, true)
end
for i, stream in ipairs(KEYS) do
  local found = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', ARGV[6 + i], 'STREAMS', stream, '>')
  if found then return {i, found[1][2], prefetched(found[1][2])} end
end
return false
