-- Decides and charges all limits of a request in one step. The arithmetic is that of gcra.rs and budget.rs, in
-- microseconds of this server's clock and integers that a double represents exactly.
--
-- KEYS: the node's registration, then one key per limit.
-- ARGV: operation, node, TTL of its holdings (us), size of the first group (restate: the node's old names);
--       then per limit: kind, whether it has windows (1 or 0), amount, period (us), burst, mark (0: none), a, b
--   peek, admit   a: cost   b: units to lease            -> group 1 admitted, group 2 admitted (2: not checked),
--                                                             then per limit: wait, remaining, reset, leased, warns
--   settle        a: change of the holdings   b: usage   -> 1, warns
--   restate       a: all holdings             b: usage   -> 1, warns
-- Returns { -1 } and changes nothing if the registration does not exist (flushed, expired, replaced).
-- warns: 1 if the usage has reached the mark with this command; the rules are those of warn.rs.
--
-- A limit is a hash. Without windows: l units and f ticks (a unit is `period` ticks) at time t. With windows: l spent as
-- of window t. One field per node with holdings: the amount and its expiry. w: 0, and the time until which no warning
-- follows; it has the form of a node that holds nothing, which is what older versions take it for.
local operation, node, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
if operation ~= 'restate' and redis.call('EXISTS', KEYS[1]) == 0 then return { -1 } end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local MAX = 9e15 -- below 2^53
local CLOCK_SKEW = 60000000
local DAY = 86400000000
local MONTH = 31 * DAY -- a calendar month
local QUIET_CONCURRENT = 60000000

local function text(number) return string.format('%.0f', number) end

local function divide(x, y)
  local rest = math.fmod(x, y)
  return (x - rest) / y, rest
end

-- x * y / d and its remainder, for x and d below 2^42 and y below 2^50, in digits of ten bits.
local function scale(x, y, d)
  local quotient, rest = 0, 0
  for place = 4, 0, -1 do
    local digit = math.floor(y / 1024 ^ place) % 1024
    local more
    more, rest = divide(rest * 1024 + digit * x, d)
    quotient = quotient * 1024 + more
  end
  return quotient, rest
end

-- If the clock was set back, the limit's time is set back too: otherwise a limit charged under a clock in the future
-- would hold until then. Differences below a minute, as between a primary and its successor, are tolerated.
local function set_back(c, t)
  c.t = t
  redis.call('HSET', c.key, 't', text(t))
end

local function drain(c)
  if c.t > now + CLOCK_SKEW then set_back(c, now) end
  local passed = math.min(math.max(now - c.t, 0), 2 ^ 42 - 1)
  local each, part = divide(c.amount, c.period)
  local whole, ticks = scale(passed, part, c.period)
  c.t = c.t + passed
  c.l = c.l - whole - passed * each
  c.f = c.f - ticks
  if c.f < 0 then c.l, c.f = c.l - 1, c.f + c.period end
  if c.l < 0 then c.l, c.f = 0, 0 end
end

-- Months since January 1970 and their first days, as in budget.rs.
local function month(day)
  local era, of_era = divide(day + 719468, 146097)
  local year = divide(of_era - divide(of_era, 1460) + divide(of_era, 36524) - divide(of_era, 146096), 365)
  local of_year = of_era - (365 * year + divide(year, 4) - divide(year, 100))
  return (era * 400 + year) * 12 + divide(5 * of_year + 2, 153) + 2 - 1970 * 12
end

local function first_day(month)
  local year, of_year = divide(month + 1970 * 12 - 2, 12)
  local era
  era, year = divide(year, 400)
  return era * 146097 + year * 365 + divide(year, 4) - divide(year, 100) + divide(153 * of_year + 2, 5) - 719468
end

-- The current period, and the start of a period.
local function number(c)
  if c.period == MONTH then return month((divide(now, DAY))) end
  return (divide(now, c.period))
end

local function begins(c, n)
  if c.period == MONTH then return first_day(n) * DAY end
  return n * c.period
end

local function advance(c)
  local period = number(c)
  if now + CLOCK_SKEW < begins(c, c.t) then set_back(c, period) end
  if period > c.t then c.l, c.t = math.max(c.l - (period - c.t) * c.amount, 0), period end
end

local function read(index)
  local at = 4 + index * 8
  local c = { key = KEYS[index + 2], kind = ARGV[at + 1], window = ARGV[at + 2] == '1' }
  c.l, c.f, c.held, c.mine, c.others, c.expired, c.wait, c.leased, c.quiet, c.warns = 0, 0, 0, 0, {}, {}, 0, 0, 0, 0
  c.amount, c.period, c.burst = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  c.mark, c.a, c.b = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
  local fields = redis.call('HGETALL', c.key)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'l' or name == 'f' or name == 't' then
      c[name] = tonumber(value)
    else
      local held, expires = string.match(value, '^(%d+) (%d+)$')
      if name == 'w' then
        c.quiet = tonumber(expires)
      elseif name == node then
        c.mine = tonumber(held)
      elseif tonumber(expires) <= now then
        c.expired[#c.expired + 1] = name
      else
        c.others[name] = tonumber(held)
        c.held = c.held + c.others[name]
      end
    end
  end
  c.held = c.held + c.mine
  if c.window then
    c.t = c.t or number(c)
    advance(c)
  elseif c.kind ~= 'concurrent' then
    c.t = c.t or now
    drain(c)
  end
  return c
end

-- Microseconds to drain this amount, rounded up.
local function drain_time(c, units, ticks)
  local all = units * c.period + ticks
  if all > MAX then return math.ceil(all / c.amount) + 1 end
  local whole, rest = divide(all, c.amount)
  return rest > 0 and whole + 1 or whole
end

local function remaining(c)
  if c.kind == 'concurrent' then return math.max(c.amount - c.held, 0) end
  return math.max(c.burst - c.l - c.held - (c.f > 0 and 1 or 0), 0)
end

local function reset(c)
  if c.kind == 'concurrent' then return 0 end
  if c.window then return begins(c, number(c) + 1) - now end
  return drain_time(c, c.l + c.held, c.f)
end

-- 0: admitted. Positive: microseconds to wait. Negative: a window is spent, and renewed after so many.
local function check(c)
  if c.kind == 'concurrent' then return c.held < c.amount and 0 or 1000000 end
  if c.window then
    if remaining(c) > 0 then return 0 end
    if c.l < c.burst then return 1000000 end
    return now - begins(c, number(c) + divide(c.l - c.burst, c.amount) + 1)
  end
  local over = c.l + c.held + math.min(c.a, c.burst) - c.burst
  if over < 0 or (over == 0 and c.f == 0) then return 0 end
  return drain_time(c, over, c.f)
end

local function hold(c, change)
  change = math.max(change, -c.mine)
  c.mine, c.held = math.min(c.mine + change, MAX), math.min(c.held + change, MAX)
end

local function charge(c, cost) c.l = math.min(c.l + cost, MAX) end

local function used(c)
  if c.kind == 'concurrent' then return c.held end
  return c.l + (c.f > 0 and 1 or 0)
end

-- Notes whether to warn, after a change of what was used before.
local function compare(c, before)
  if c.mark == 0 or used(c) < c.mark then return end
  if c.window then
    local e = begins(c, number(c) + 1)
    if c.quiet == e then return end
    c.quiet = e
  else
    local quiet = c.kind == 'concurrent' and QUIET_CONCURRENT or c.period
    if before >= c.mark or (now < c.quiet and c.quiet - now <= quiet) then return end
    c.quiet = now + quiet
  end
  c.warns = 1
  redis.call('HSET', c.key, 'w', '0 ' .. text(c.quiet))
end

local function save(c)
  redis.call('HSET', c.key, 'l', text(c.l), 'f', text(c.f), 't', text(c.t or 0))
  if c.mine > 0 then
    redis.call('HSET', c.key, node, text(c.mine) .. ' ' .. text(now + ttl))
  else
    c.expired[#c.expired + 1] = node
  end
  for _, name in ipairs(c.expired) do redis.call('HDEL', c.key, name) end
  -- Expires once it is fully refilled; nodes with holdings renew it.
  local whole = reset(c)
  if c.window then whole = whole + math.ceil(c.l / c.amount) * c.period end
  if c.quiet > now and c.quiet - now <= MONTH then whole = math.max(whole, c.quiet - now) end
  redis.call('PEXPIRE', c.key, text(math.min(math.ceil(math.max(whole, ttl) / 1000) + 1000, 1e12)))
end

local function reserve(c)
  local before = used(c)
  if c.kind == 'requests' then charge(c, c.a) else hold(c, c.a) end
  if c.kind == 'requests' or c.kind == 'concurrent' then compare(c, before) end
  c.leased = math.min(c.b, remaining(c))
  hold(c, c.leased)
  save(c)
end

local limits = {}
for index = 0, #KEYS - 2 do limits[index + 1] = read(index) end

if operation == 'settle' or operation == 'restate' then
  for _, c in ipairs(limits) do
    local before = used(c)
    if operation == 'restate' then
      for name in string.gmatch(ARGV[4], '%S+') do
        c.expired[#c.expired + 1] = name
        c.held = c.held - (c.others[name] or 0)
      end
      c.a = c.a - c.mine
    end
    hold(c, c.a)
    charge(c, c.b)
    compare(c, before)
    save(c)
  end
  return { 1, limits[1].warns }
end

local function decide(from, to)
  local fits = 1
  for i = from, to do
    limits[i].wait = check(limits[i])
    if limits[i].wait ~= 0 then fits = 0 end
  end
  if fits == 1 and operation == 'admit' then
    for i = from, to do reserve(limits[i]) end
  end
  return fits
end

local first = tonumber(ARGV[4])
local answer = { decide(1, first), 2 }
if answer[1] == 1 and #limits > first then answer[2] = decide(first + 1, #limits) end
for _, c in ipairs(limits) do
  for _, number in ipairs({ c.wait, remaining(c) + c.leased, reset(c), c.leased, c.warns }) do answer[#answer + 1] = math.min(number, MAX) end
end
return answer
