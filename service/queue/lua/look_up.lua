-- The states of clips. `clips` has the keys of job, scores and payload for each of `numbers`; with `inline` 1 the
-- payloads are among the states.
-- KEYS: clips...
-- ARGV: inline, numbers...
-- INCLUDE: clip_states
local inline = ARGV[1]
local clips = {}
for i = 1, #ARGV - 1 do
  clips[i] = {job = KEYS[3 * i - 2], scores = KEYS[3 * i - 1], payload = KEYS[3 * i], number = ARGV[i + 1]}
end
return clip_states(clips, inline == '1')
