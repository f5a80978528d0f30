-- Deletes the dead letter of a job, with what was kept for its replay.
-- KEYS: letters
-- ARGV: id, job_prefix, clip_prefix, scores_prefix, letter_prefix
-- INCLUDE: discard_kept, delete_letters
local letters, id = KEYS[1], ARGV[1]
discard_kept({job = ARGV[2], clip = ARGV[3], scores = ARGV[4], letter = ARGV[5]}, id)
delete_letters(letters, id)
