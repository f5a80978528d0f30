-- `now`: the clock of Redis in Unix seconds. Hosts may disagree about the time; every script asks this one clock.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
