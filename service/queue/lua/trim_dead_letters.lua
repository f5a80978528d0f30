-- Deletes dead letters that are too old, or more than are to be kept, with what was kept for their replay.
-- KEYS: letters
-- ARGV: life, max_letters, max_bytes, job_prefix, clip_prefix, scores_prefix, letter_prefix
-- INCLUDE: now, fields_of, discard_kept
local letters, life, max_letters, max_bytes = KEYS[1], unpack(ARGV, 1, 3)
local prefixes = {job = ARGV[4], clip = ARGV[5], scores = ARGV[6], letter = ARGV[7]}
local bytes, count = 0, 0
for _, letter in ipairs(redis.call('XREVRANGE', letters, '+', '-')) do
  local fields = fields_of(letter)
  count = count + 1
  bytes = bytes + fields['clip_bytes']
  if count > tonumber(max_letters) or bytes > tonumber(max_bytes) or letter[1]:match('%d+') / 1000 < now - life then
    discard_kept(prefixes, fields['job_id'])
    redis.call('XDEL', letters, letter[1])
  end
end
