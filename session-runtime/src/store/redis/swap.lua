-- Puts a record in place of another, if that is still what is there. Answers 1, or all that is there instead.
--
-- KEYS: the record. ARGV: the version to compare, or nothing for no record; for how many milliseconds to keep the record,
-- 'forever', or nothing for as long as before; how many milliseconds later than before it expires; how many fields to remove;
-- their names; then each field to write, and its value.
local key, before, lifetime, later = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local last_removed = 4 + ARGV[4]

local is_there
if before == '' then
  is_there = redis.call('EXISTS', key) == 0
else
  is_there = redis.call('HGET', key, 'v') == before
end
if not is_there then return redis.call('HGETALL', key) end

-- Lua's stack holds some 8,000 arguments.
local function apply(command, first, last)
  for at = first, last, 4000 do
    redis.call(command, key, unpack(ARGV, at, math.min(at + 3999, last)))
  end
end

if lifetime ~= '' and lifetime ~= 'forever' and later > 0 then
  -- By an app's clock that has been ahead for a while, too little seems to be left.
  lifetime = math.max(lifetime, redis.call('PTTL', key) + later)
end

local function keep()
  if lifetime == 'forever' then
    redis.call('PERSIST', key)
  elseif lifetime ~= '' then
    redis.call('PEXPIRE', key, lifetime)
  end
end

-- Where an ACL forbids something, it fails before the record is written: an error says that it was not. Who may make records
-- may HSET.
keep()
apply('HDEL', 5, last_removed)
apply('HSET', last_removed + 1, #ARGV)
if before == '' then keep() end
return 1
