-- Opens a batch, unless one has its id or its owner has `most` open ones. Returns the digest of the batch that has the
-- id now, or the number of those that are open. Called again, because its reply was lost, it returns the digest again.
-- `numbers_and_lines` has the number of each line and the line; `closing` is not empty where something is left to be
-- done when all of them have ended. The sets live as long as the longest life of a batch in them: the setting may have
-- been shortened.
-- KEYS: batch, lines, batches, open_batches, listed
-- ARGV: id, digest, most, life, record, closing, numbers_and_lines...
-- INCLUDE: now
local batch, lines, batches, open_batches, listed = unpack(KEYS, 1, 5)
local id, digest, most, life, record, closing = unpack(ARGV, 1, 6)
local known = redis.call('HGET', batch, 'digest')
if known then return known end
redis.call('ZREMRANGEBYSCORE', open_batches, '-inf', now)
local open = redis.call('ZCARD', open_batches)
if open >= tonumber(most) then return open end
for i = 7, #ARGV, 2 do redis.call('HSET', lines, ARGV[i], ARGV[i + 1]) end
redis.call('HSET', batch, 'digest', digest, 'record', record, 'created_at', string.format('%.6f', now),
  'left', (#ARGV - 6) / 2)
if closing ~= '' then redis.call('HSET', batch, 'closing', closing) end
redis.call('EXPIRE', batch, life)
redis.call('EXPIRE', lines, life)
redis.call('ZREMRANGEBYSCORE', listed, '-inf', now)
for _, set in ipairs({batches, open_batches, listed}) do
  redis.call('ZADD', set, now + life, id)
  redis.call('EXPIRE', set, math.max(life, redis.call('TTL', set)))
end
return digest
