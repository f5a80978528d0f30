-- Appends a numbered event to a job's stream, so that a follower that was away gets the events that it missed.
local function event(events, life, state, done)
  redis.call('XADD', events, 'MAXLEN', 500, '*', 'state', state, 'done', done)
  redis.call('EXPIRE', events, life)
end
