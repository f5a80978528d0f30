-- A job that has ended counts no longer towards the share of its caller. `holds` names the caller and its member in the
-- caller's set.
local function let_go(held_prefix, id, holds)
  local caller, rest = (holds or ''):match('^(%x+):(.+)$')
  if caller then redis.call('ZREM', held_prefix .. caller, id .. ':' .. rest) end
end
