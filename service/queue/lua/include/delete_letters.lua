-- Deletes all dead letters of a job: a job that was replayed and failed again may have a second one.
-- INCLUDE: fields_of
local function delete_letters(letters, id)
  for _, letter in ipairs(redis.call('XREVRANGE', letters, '+', '-')) do
    if fields_of(letter)['job_id'] == id then redis.call('XDEL', letters, letter[1]) end
  end
end
