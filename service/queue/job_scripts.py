"""What happens to a job, each step as one Lua script: a process that dies leaves a step done or not begun."""

from __future__ import annotations

from service.queue.clock import NOW

# Every event is kept with its number, so that a listener who was away gets what it missed.
EVENT = """
local function event(key, life, state, done)
  redis.call('XADD', key, 'MAXLEN', 500, '*', 'state', state, 'done', done)
  redis.call('EXPIRE', key, life)
end
"""

# After NOW. What is to be delivered stands in Redis in the same moment as the end of the job.
ENQUEUE_WEBHOOK = """
local function enqueue_webhook(job, id, state, webhooks, delivery, life)
  local hook = redis.call('HMGET', job, 'webhook', 'owner')
  if not hook[1] then return end
  redis.call('DEL', delivery)
  redis.call('HSET', delivery, 'url', hook[1], 'owner', hook[2] or '', 'state', state, 'at', now)
  redis.call('EXPIRE', delivery, life)
  redis.call('ZADD', webhooks, now, id)
end
"""

# RECORD and FINISH begin with a write that frees memory: a Redis at its limit refuses a script whose first write may
# grow, and a result that could not be written would keep the queue from ever draining.

# An entry that is acknowledged stays in the stream, unless it is deleted too.
ACKNOWLEDGE = """
local function acknowledge(stream, group, first)
  for i = first, #ARGV do
    redis.call('XACK', stream, group, ARGV[i])
    redis.call('XDEL', stream, ARGV[i])
  end
end
"""

# The payload of a scored clip is of no more use, but for that of a dead job: the score comes too late to be kept, and a
# replay wants it again. The stream entry goes once the job is known to go on. Where this was the last clip the entry
# stays until the job is finished, and what is needed for that is returned.
# KEYS: job, scores, events, a payload for each clip, stream.
# ARGV: life of the scores, channel, job id, group, number of clips, then clips and their scores, then stream entries.
RECORD = (
    EVENT
    + ACKNOWLEDGE
    + """
local clips = tonumber(ARGV[5])
local job = redis.call('HMGET', KEYS[1], 'total', 'finished', 'record')
if job[2] ~= 'dead' then redis.call('UNLINK', unpack(KEYS, 4, 3 + clips)) end
local function go_on()
  acknowledge(KEYS[4 + clips], ARGV[4], 6 + 2 * clips)
  return false
end
if not job[1] or job[2] then return go_on() end
local before = redis.call('HLEN', KEYS[2])
for i = 6, 5 + 2 * clips, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[2], ARGV[1])
local done = redis.call('HLEN', KEYS[2])
if done > before then
  event(KEYS[3], ARGV[1], 'running', done)
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
if done < tonumber(job[1]) then return go_on() end
return {job[3], redis.call('HGETALL', KEYS[2])}
"""
)

# Asked again, because its answer was lost, it answers the same: the job is there.
# A request whose Idempotency-Key has meanwhile gone to another one must not make a second job, nor may there be a job
# without its clips: those that came before it live as their reservation does, and on with the job. Its caller holds it
# from now on, until `service.queue.capacity` finds it ended.
# KEYS: job, stream, deadlines, reservations, events, jobs of the owner, routes, a payload for each clip that comes with
# it, then the idempotency key if there is one.
# ARGV: token, value of the key, its life, life of the job, job id, deadline, reservation, number of fields of the job,
# number of fields of an entry, life of events and payloads, place in the owner's list, oldest place to keep, route,
# number of payloads, the payloads, where those are empty that are there already, then the fields.
ACCEPT = (
    EVENT
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
for i = 1, tonumber(ARGV[14]) do
  if ARGV[14 + i] == '' and redis.call('EXISTS', KEYS[7 + i]) == 0 then return -1 end
end
if ARGV[1] ~= '' then
  if redis.call('GET', KEYS[#KEYS]) ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[#KEYS], ARGV[2], 'EX', ARGV[3])
end
local of_job, of_entry, payloads = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[14])
local fields = 15 + payloads
redis.call('HSET', KEYS[1], unpack(ARGV, fields, fields + of_job - 1))
for i = 1, payloads do
  if ARGV[14 + i] == '' then redis.call('EXPIRE', KEYS[7 + i], ARGV[10])
  else redis.call('SET', KEYS[7 + i], ARGV[14 + i], 'EX', ARGV[10]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[5])
redis.call('ZREM', KEYS[4], ARGV[7])
redis.call('ZADD', KEYS[7], 0, ARGV[13])
local caller, size = ARGV[7]:match('^%w+x(%x+):%a+:%d+:(.+)$')
if caller then
  local held = KEYS[4] .. ':' .. caller
  local clips = (#ARGV - fields - of_job + 1) / of_entry
  redis.call('ZADD', held, ARGV[6], ARGV[5] .. ':' .. string.format('%d', clips) .. ':' .. size)
  redis.call('EXPIRE', held, ARGV[4])
end
for first = fields + of_job, #ARGV, of_entry do
  redis.call('XADD', KEYS[2], '*', unpack(ARGV, first, first + of_entry - 1))
end
event(KEYS[5], ARGV[10], 'queued', 0)
redis.call('ZADD', KEYS[6], 0, ARGV[11])
redis.call('ZREMRANGEBYLEX', KEYS[6], '-', '(' .. ARGV[12])
redis.call('EXPIRE', KEYS[6], ARGV[4])
return 1
"""
)

# All letters of a job: one that was looked up may have been followed by another, where the job was replayed and died
# again meanwhile.
DELETE_LETTERS = """
local function delete_letters(letters, id)
  for _, letter in ipairs(redis.call('XREVRANGE', letters, '+', '-')) do
    for i = 1, #letter[2], 2 do
      if letter[2][i] == 'job_id' and letter[2][i + 1] == id then redis.call('XDEL', letters, letter[1]) end
    end
  end
end
"""

# An Idempotency-Key and a place in the cache may lead to another job by now: they go only where they lead to this one.
# Of a dead job nothing is kept for a replay any more, and its letter goes too.
# KEYS: the first seven of FINISH, then the dead letters and what is kept of the job beside its letter. ARGV: job id,
# channel, life of the tombstone, prefix of payload keys.
CANCEL = (
    EVENT
    + DELETE_LETTERS
    + """
redis.call('ZREM', KEYS[4], ARGV[1])
local job = redis.call('HMGET', KEYS[1], 'total', 'finished', 'idempotency', 'same')
if not job[1] then return 0 end
for clip = 0, job[1] - 1 do redis.call('UNLINK', ARGV[4] .. clip) end
local done = redis.call('HLEN', KEYS[3])
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[7])
redis.call('ZREM', KEYS[6], ARGV[1])
for at = 3, 4 do
  local leads_to = job[at] and redis.call('GET', job[at])
  if leads_to and leads_to:find(ARGV[1], 1, true) then redis.call('DEL', job[at]) end
end
if job[2] == 'dead' then
  delete_letters(KEYS[8], ARGV[1])
  redis.call('UNLINK', KEYS[9])
end
redis.call('HDEL', KEYS[1], 'record')
redis.call('HSET', KEYS[1], 'finished', 'cancelled')
redis.call('EXPIRE', KEYS[1], ARGV[3])
if not job[2] then event(KEYS[5], ARGV[3], 'cancelled', done) end
redis.call('PUBLISH', ARGV[2], ARGV[1])
return job[2] and 1 or 2
"""
)

RECORD_FAULT = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'fault', ARGV[1]) end
"""

# Whoever sets the outcome first finishes the job; the rest of the clean-up must not happen without it, nor twice. The
# stream entries are of no more use either way, the payloads only to a job that is dead and may be replayed. A success
# after the deadline is none: whoever asks is told that the job has expired, and the sweep will end it so.
# KEYS: job, outcome, scores, deadlines, events, due webhooks, webhook of the job; with entries, their stream; then a
# payload for each clip that was scored in this step instead of by RECORD.
# ARGV: outcome, its life, life of the tombstone, channel, job id, state, group, what the channels of homes begin with,
# most bytes of an outcome that is sent to the job's home, what the payload keys of the job begin with, then stream
# entries.
FINISH = (
    NOW
    + EVENT
    + ENQUEUE_WEBHOOK
    + ACKNOWLEDGE
    + """
local job = redis.call('HMGET', KEYS[1], 'total', 'finished', 'home', 'deadline_at')
local late = ARGV[6] == 'succeeded' and job[4] and now >= tonumber(job[4])
local function finish()
  if not job[1] or job[2] or late then return 0 end
  if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2]) then return 0 end
  redis.call('HSET', KEYS[1], 'finished', '1', 'state', ARGV[6])
  redis.call('HDEL', KEYS[1], 'record')
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  local scored = math.max(0, #KEYS - 8)
  if scored > 0 then event(KEYS[5], ARGV[2], 'running', scored) end
  event(KEYS[5], ARGV[2], ARGV[6], scored + redis.call('HLEN', KEYS[3]))
  enqueue_webhook(KEYS[1], ARGV[5], ARGV[6], KEYS[6], KEYS[7], ARGV[3])
  redis.call('DEL', KEYS[3])
  if ARGV[6] == 'expired' then
    for clip = 0, job[1] - 1 do redis.call('UNLINK', ARGV[10] .. clip) end
  end
  if job[3] and #ARGV[1] <= tonumber(ARGV[9]) then
    redis.call('PUBLISH', ARGV[8] .. job[3], ARGV[5] .. ' ' .. ARGV[1])
  end
  redis.call('PUBLISH', ARGV[4], ARGV[5])
  return 1
end
if not late then redis.call('ZREM', KEYS[4], ARGV[5]) end
if job[2] ~= 'dead' then
  for i = 9, #KEYS do redis.call('UNLINK', KEYS[i]) end
end
local won = finish()
acknowledge(KEYS[8], ARGV[7], 11)
return won
"""
)

# Jobs past their deadlines. KEYS: deadlines. ARGV: most jobs.
OVERDUE = (
    NOW
    + """
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
"""
)
