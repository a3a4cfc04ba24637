-- One commit: `Change::decide` and `Change::apply`, where the record is.
--
-- A record is a hash. Each of its slots is a field `=name`: the signature's 16 bytes, the expiry as decimal
-- digits or nothing, a space, the payload. The other fields:
--
--   record   format, state, expires, updated, seen; state is L (live), M (moved), E (ended), C (claimed) or S (claimed,
--            and shared)
--   detail   M: the key it moved to; E: the reason; C and S: since when, a space, for whom
--   owner    whom it is listed under, as it stands in the index's key
--   commits  the commits of the last minute or two: since when the newer ones are gathered, how many bytes the
--            older ones take, and the ids, 8 bytes each; of very many, the last ones
--
-- Times are kept as text, exactly, and compared as numbers, which are exact to the year 287396.
--
-- Answers what came of it. Where the index is out of reach, it also says in whose list the record stands no more.
--
-- KEYS: the record; then where it moves to, if it does; then what it retires, if it does.

-- The detail is what the record's will be; of a move, what the index has called the record.
local id, kind, detail, ending = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local expiry, expires_to = ARGV[6], ARGV[7]
-- Whom to list it under; what keys of the index begin with, if they may be written here; else under whom the
-- record has been listed before this was sent. And what the index calls the record.
local owner, index, listed, entry = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local retire_at, count = ARGV[12], tonumber(ARGV[13])
local key, now = KEYS[1], tonumber(ARGV[2])
-- Changes are four arguments each, then the slots that were only read, two each.
local CHANGES, READS = 14, 14 + 4 * count

local FORMAT = '1'
local GENERATION = 60000  -- ms: what `commits` remembers at least
local MOST = 8 * 1024     -- bytes: they are loaded with the record
local SLACK = 90000       -- ms: how long the server keeps what has lapsed, for clocks that disagree
local FOREVER = 1e14      -- ms: what lives longer has no TTL

local function later(a, b)
  if tonumber(a) >= tonumber(b) then return a end
  return b
end

local function read(key)
  local fields = redis.call('HMGET', key, 'record', 'detail', 'owner', 'commits')
  local found = {}
  if fields[1] then
    local format, state, expires, updated, seen = string.match(fields[1], '^(%d+) (%u) (%-?%d+) (%-?%d+) (%-?%d+)$')
    if format ~= FORMAT then return nil end
    found.state, found.expires, found.updated, found.seen = state, expires, updated, seen
    found.detail, found.owner, found.commits = fields[2] or '', fields[3] or '', fields[4] or nil
    found.live = now < tonumber(expires)
  end
  return found
end

local function remembers(commits)
  local at = commits and string.find(commits, ' ', string.find(commits, ' ', 1, true) + 1, true)
  local found = at
  while found do
    found = string.find(commits, id, found + 1, true)
    if found and (found - at - 1) % 8 == 0 then return true end
  end
  return false
end

-- `commits` with this one. After a minute a generation is full, and the one before it is forgotten. Whether it has
-- been a minute the server's clock decides, since those of two apps may differ; theirs only say when to ask it.
local function remembering(commits)
  local since, older, ids = ARGV[2], '0', ''
  if commits then since, older, ids = string.match(commits, '^(%-?%d+) (%d+) (.*)$') end
  if math.abs(now - tonumber(since)) >= GENERATION then
    local time = redis.call('TIME')[1] .. '000'
    if math.abs(tonumber(time) - tonumber(since)) >= GENERATION then
      ids = string.sub(ids, tonumber(older) + 1)
      since, older = time, string.len(ids)
    end
  end
  ids = ids .. id
  local surplus = string.len(ids) - MOST
  if surplus > 0 then
    ids, older = string.sub(ids, surplus + 1), 0
  end
  return since .. ' ' .. older .. ' ' .. ids
end

local function expiry_of(slot)
  return string.match(slot, '^(%-?%d*) ', 17)
end

-- Whether a slot has the signature that is expected; one that has lapsed counts as absent, and has none.
local function has(name, signature)
  local slot = redis.call('HGET', key, '=' .. name)
  if slot then
    local expires = expiry_of(slot)
    if expires == '' or now < tonumber(expires) then
      return string.sub(slot, 1, 16) == signature
    end
  end
  return signature == ''
end

local function holds()
  for at = CHANGES, READS - 1, 4 do
    if not has(ARGV[at], ARGV[at + 1]) then return false end
  end
  for at = READS, #ARGV - 1, 2 do
    if not has(ARGV[at], ARGV[at + 1]) then return false end
  end
  return true
end

-- The record's fields, as a load has them; `commits` need not travel.
local function contents()
  local all, fields = redis.call('HGETALL', key), {}
  for at = 1, #all, 2 do
    if all[at] ~= 'commits' then
      fields[#fields + 1] = all[at]
      fields[#fields + 1] = all[at + 1]
    end
  end
  return fields
end

-- What speaks against it, if anything does.
local function refusal(found)
  if kind == 'create' then
    if found.live and found.state ~= 'E' then return { 'exists' } end
  elseif not found.live or found.state == 'E' then
    return { 'gone' }
  elseif found.state == 'M' then
    return { 'moved', found.detail }
  elseif found.state == 'C' or found.state == 'S' then
    local at, by = string.match(found.detail, '^(%-?%d+) (.*)$')
    local fits = kind == 'end' or kind == 'release' and at == detail or kind == 'claim' and by == detail
    if not fits then return { 'gone' } end
  elseif not holds() then
    return { 'conflict', contents() }
  end
end

local function apply_slots()
  for at = CHANGES, READS - 1, 4 do
    local field, operation, value = '=' .. ARGV[at], ARGV[at + 2], ARGV[at + 3]
    if operation == 'set' then
      redis.call('HSET', key, field, value)
    elseif operation == 'drop' then
      redis.call('HDEL', key, field)
    else
      local slot = redis.call('HGET', key, field)
      if slot then
        local rest = string.sub(slot, 17 + string.len(expiry_of(slot)))
        redis.call('HSET', key, field, string.sub(slot, 1, 16) .. value .. rest)
      end
    end
  end
end

local function write(key, state, expires, updated, seen)
  redis.call('HSET', key, 'record', FORMAT .. ' ' .. state .. ' ' .. expires .. ' ' .. updated .. ' ' .. seen)
end

-- Has the server drop the record some time after it lapses.
local function drop_after(key, expires)
  local rest = tonumber(expires) - now
  if rest > FOREVER then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(rest, 0) + SLACK))
  end
end

-- Leaves in place of the record what tells where it went.
local function bury(commits, state, detail)
  redis.call('UNLINK', key)
  write(key, state, ending, ARGV[2], ARGV[2])
  redis.call('HSET', key, 'detail', detail, 'commits', commits)
  drop_after(key, ending)
end

-- Takes what was here out of its owner's list. Answers whose that is, if it is out of reach.
local function unlist(owner, entry)
  if owner == '' then return nil end
  if index == '' then return owner end
  redis.call('ZREM', index .. '{' .. owner .. '}', entry)
end

local function expiry_after(expires)
  if expiry == 'set' then return expires_to end
  if expiry == 'extend' then return later(expires, expires_to) end
  return expires
end

local function retire(key, found)
  if found and found.state == 'M' and tonumber(retire_at) < tonumber(found.expires) then
    write(key, 'M', retire_at, found.updated, found.seen)
    drop_after(key, retire_at)
  end
end

local function newer_format()
  return redis.error_reply('FORMAT the record has another one')
end

local found = read(key)
if not found then return newer_format() end
if remembers(found.commits) then return { 'applied' } end
local refused = refusal(found)
if refused then return refused end
-- A hash without a record is another program's. Users' names can be met by chance, sessions' cannot.
if kind == 'create' and not found.state and redis.call('EXISTS', key) == 1 then
  return redis.error_reply('WRONGTYPE a hash without a record is in the way')
end

-- All that may fail is read before anything is written.
local retired = retire_at ~= '' and read(KEYS[#KEYS])
local commits, left = remembering(found.commits), nil
if kind == 'end' then
  bury(commits, 'E', detail)
  left = unlist(found.owner, entry)
else
  local home, target = key, nil
  if kind == 'move' then
    home, target = KEYS[2], read(KEYS[2])
    if not target then return newer_format() end
    if target.live then return { 'exists' } end
  end
  local occupied = found.state
  if kind == 'create' then
    found = { state = 'L', expires = ARGV[2], updated = ARGV[2], seen = ARGV[2], owner = '' }
  end

  -- Listed before it is there.
  local lists = owner ~= '' or kind == 'move'
  if owner == '' then owner = found.owner end
  local expires = expiry_after(found.expires)
  if lists and owner ~= '' then
    if index ~= '' then
      redis.call('ZADD', index .. '{' .. owner .. '}', expires, entry)
    elseif owner ~= listed then
      return { 'unlisted', owner }
    end
  end

  local state, updated = found.state, found.updated
  local since = ARGV[2]
  if kind == 'release' then state = 'L' end
  if kind == 'claim' then
    local at = string.match(found.detail, '^%-?%d+')
    if at then since = later(since, string.format('%.0f', at + 1)) end
    state = at and 'S' or 'C'
  end
  if count > 0 then updated = later(updated, ARGV[2]) end

  if kind == 'create' and occupied then redis.call('UNLINK', key) end
  apply_slots()
  if kind == 'claim' then
    redis.call('HSET', key, 'detail', since .. ' ' .. detail)
  elseif kind == 'release' then
    redis.call('HDEL', key, 'detail')
  end
  if owner ~= found.owner then redis.call('HSET', key, 'owner', owner) end

  if kind == 'move' then
    -- What is remembered stays with the keys, not with the record.
    redis.call('RENAME', key, home)
    if target.commits then
      redis.call('HSET', home, 'commits', target.commits)
    else
      redis.call('HDEL', home, 'commits')
    end
    bury(commits, 'M', home)
    left = unlist(found.owner, detail)
  else
    redis.call('HSET', key, 'commits', commits)
  end
  write(home, state, expires, updated, later(found.seen, ARGV[2]))
  if kind == 'create' or expires ~= found.expires then drop_after(home, expires) end
end
if retired then retire(KEYS[#KEYS], retired) end
return { 'applied', left }
