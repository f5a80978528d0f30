-- Prolongs the claims on Idempotency-Keys of requests that go on. One that lapsed meanwhile, because a clock jumped or
-- a process stood still, is back, unless another request has the key. `tokens` has one for each of `claims`.
-- KEYS: claims...
-- ARGV: life, tokens...
local life = ARGV[1]
for i = 1, #KEYS do
  local holder = redis.call('GET', KEYS[i])
  if not holder or holder == ARGV[1 + i] then redis.call('SET', KEYS[i], ARGV[1 + i], 'EX', life) end
end
