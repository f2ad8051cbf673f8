-- Copyright (c) The port587.mail contributors
-- SPDX-License-Identifier: GPL-3.0-or-later

-- Written by the role port587.mail.rspamd. Who may write in whose name: after a login, and from outside. And what the spam filter adds.
-- Section port587 of rspamd.conf.local.override has the options. Lua 5.1, and what rspamd 1.6 has of its API.

if confighelp then
  return
end

local options = rspamd_config:get_all_opt('port587')
if not options then
  return
end

-- The headers that say whose mail it is (RFC 5322, 3.6.2 and 3.6.6).
local AUTHORS = { ['from'] = 'From', ['sender'] = 'Sender', ['resent-from'] = 'Resent-From', ['resent-sender'] = 'Resent-Sender' }
-- Headers that name the mailbox a mail was delivered to.
local DELIVERED = { ['delivered-to'] = true, ['x-original-to'] = true, ['envelope-to'] = true, ['x-envelope-to'] = true, ['x-delivered-to'] = true }
-- Headers with verdicts, which only this server gives: mail programs and scripts believe them.
local VERDICTS = {
  '^x%-spam', '^x%-rspamd%-', '^x%-bogosity$', '^x%-dspam%-', '^x%-text%-classification$', '^received%-spf$', '^authentication%-results$',
}

local own = {}
for _, domain in ipairs(options.domains or {}) do
  own[domain] = true
end

-- -- headers ---------------------------------------------------------------------------------------------------------

-- All headers in their order, each {name in small letters, value}. Not get_header(): that has read them in its own way already.
local function headers_of(task)
  local found, lines = {}, {}
  for line in (tostring(task:get_raw_headers() or '') .. '\n'):gmatch('([^\n]*)\n') do
    line = line:gsub('\r$', '')
    local name, value = line:match('^([^%s:]+)[ \t]*:(.*)$')
    if name then
      lines = { value }
      found[#found + 1] = { name:lower(), lines }
    else
      lines[#lines + 1] = line
    end
  end
  for _, header in ipairs(found) do
    header[2] = table.concat(header[2], '\n')
  end
  return found
end

-- -- addresses in a header (RFC 5322, 3.4 and 4.4) ---------------------------------------------------------------------

local Reader = {}
Reader.__index = Reader

function Reader:skip()
  while true do
    self.at = self.text:find('[^ \t\n]', self.at) or #self.text + 1
    if self.text:sub(self.at, self.at) ~= '(' then
      return
    end
    self:comment()
  end
end

function Reader:comment()
  local depth = 0
  repeat
    local sign = self.text:sub(self.at, self.at)
    if sign == '' then
      error('a comment does not end', 0)
    end
    depth = depth + (sign == '(' and 1 or sign == ')' and -1 or 0)
    self.at = self.at + (sign == '\\' and 2 or 1)
  until depth == 0
end

-- The sign that comes next, behind blanks and comments.
function Reader:next()
  self:skip()
  return self.text:sub(self.at, self.at)
end

function Reader:take(sign)
  if self:next() ~= sign then
    error(sign .. ' is missing', 0)
  end
  self.at = self.at + 1
end

function Reader:atom()
  self:skip()
  local atom = self.text:match('^[^%s%c()<>@,;:\\".%[%]]+', self.at)
  if not atom then
    error('a word is missing', 0)
  end
  self.at = self.at + #atom
  return atom
end

function Reader:quoted()
  local found = {}
  self:take('"')
  while true do
    local sign = self.text:sub(self.at, self.at)
    if sign == '\\' then
      self.at = self.at + 1
      sign = self.text:sub(self.at, self.at)
    elseif sign == '"' then
      self.at = self.at + 1
      return table.concat(found)
    end
    if sign == '' then
      error('a quoted word does not end', 0)
    end
    -- a line break is only how the header was folded
    found[#found + 1] = sign ~= '\n' and sign or nil
    self.at = self.at + 1
  end
end

-- Words and dots: a name, or what is before the @. The second value says whether it can be the latter.
function Reader:words()
  local found, addressable, after_word = {}, true, false
  while true do
    local sign = self:next()
    if sign == '.' then
      self.at = self.at + 1
      found[#found + 1], after_word = '.', false
    elseif sign == '' or sign:find('[<>@,;:%[%])]') then
      return table.concat(found), addressable and #found > 0
    else
      addressable, after_word = addressable and not after_word, true
      found[#found + 1] = sign == '"' and self:quoted() or self:atom()
    end
  end
end

function Reader:domain()
  if self:next() == '[' then
    local literal = self.text:match('^%[[^%[%]\\%c]*%]', self.at)
    if not literal then
      error('an address literal does not end', 0)
    end
    self.at = self.at + #literal
    return literal
  end
  local labels = { self:atom() }
  while self:next() == '.' do
    self.at = self.at + 1
    labels[#labels + 1] = self:atom()
  end
  return table.concat(labels, '.')
end

function Reader:address(before, addressable)
  if not addressable then
    error('an address has nothing before the @', 0)
  end
  self:take('@')
  self.found[#self.found + 1] = { user = before, domain = self:domain() }
end

function Reader:angle()
  self:take('<')
  if self:next() == '@' then
    -- the way that mail took in other times
    repeat
      self:take('@')
      self:domain()
      local more = self:next() == ','
      if more then
        self.at = self.at + 1
      end
    until not more
    self:take(':')
  end
  self:address(self:words())
  self:take('>')
end

-- One mailbox, or a group of them.
function Reader:member(in_group)
  local before, addressable = self:words()
  if self:next() == ':' and before ~= '' and not in_group then
    self.at = self.at + 1
    self:members(true)
    self:take(';')
    return
  end
  local bare = self:next() == '@'
  if bare then
    self:address(before, addressable)
  end
  -- "eve@example.com <eve@example.com>" is against the rules, and often written; then both are claimed
  if not bare or self:next() == '<' then
    self:angle()
  end
end

function Reader:members(in_group)
  while true do
    local sign = self:next()
    if sign == ',' then
      self.at = self.at + 1
    elseif sign == '' or sign == ';' and in_group then
      return
    else
      self:member(in_group)
      sign = self:next()
      if sign ~= '' and sign ~= ',' and not (sign == ';' and in_group) then
        error('there is more behind an address', 0)
      end
    end
  end
end

-- The addresses in a header's value; nil if it can't be understood, or has none.
local function addresses(value)
  local reader = setmetatable({ text = value, at = 1, found = {} }, Reader)
  if pcall(reader.members, reader) and #reader.found > 0 then
    return reader.found
  end
end

-- -- after a login -----------------------------------------------------------------------------------------------------

-- smtpd_sender_login_maps as text, with a line end in front. Read anew each time: people come and go without a reload.
local function senders()
  local file = io.open(options.senders)
  local text = file and file:read('*a')
  if file then
    file:close()
  end
  return text and '\n' .. text
end

-- Whether a login may send as an address, by the entry that Postfix would find first.
local function may(text, login, address)
  local user, domain = address.user:lower(), address.domain:lower()
  local plain = user:sub(1, 1) .. user:sub(2):gsub('%+.*$', '')
  for _, key in ipairs({ user .. '@' .. domain, plain .. '@' .. domain, '@' .. domain }) do
    local _, last = text:find('\n' .. key .. ' ', 1, true)
    if last and not key:find('[^%w%p]') then
      local logins = ',' .. text:match('^[^\n]*', last + 1) .. ','
      return logins:find(',' .. login:lower() .. ',', 1, true) ~= nil
    end
  end
  return false
end

local function shown(text)
  return (text:gsub('[^%w@._+=-]', '?'))
end

local function refuse(task, text)
  task:set_pre_result('reject', text, 'port587')
end

local function defer(task)
  task:set_pre_result('soft reject', 'who may send as whom can not be looked up now, try again later', 'port587')
end

-- Signed is what has no other domain in From, as rspamd reads it, than those that are known to be right.
local function sign_only_for(task, domains)
  for _, one in ipairs(task:get_from('mime') or {}) do
    -- without this (before 1.9) the domain has to be that of the envelope
    if not domains[(one.domain or ''):lower()] and task.disable_symbol then
      task:disable_symbol('DKIM_SIGNED')
    end
  end
end

-- -- the machine's own programs ---------------------------------------------------------------------------------------

-- The envelope says whose program it is: Postfix has compared it with the user, and lets only root and the trusted have another.
local trusted = {}
for _, user in ipairs(options.trusted or {}) do
  trusted[user] = true
end

-- By user and period what was sent to how many recipients, and since when.
local sent = {}
local PERIODS = { hour = 3600, day = 86400 }

-- What the user has sent within a period so far.
local function counted(user, period)
  local key, now = period .. ' ' .. user, os.time()
  local one = sent[key]
  -- a clock that was wrong counts for nothing
  if not one or now < one.since or now >= one.since + PERIODS[period] then
    one = { since = now, recipients = 0 }
    sent[key] = one
  end
  return one
end

local function too_many(task, user)
  local recipients = #(task:get_recipients('smtp') or {})
  for period, limit in pairs(options.limits or {}) do
    if counted(user, period).recipients + recipients > limit then
      local text = 'Sending limit: %s may send to %d recipients within one %s; try again later'
      task:set_pre_result('soft reject', text:format(shown(user), limit, period), 'port587')
      return true
    end
  end
  for period in pairs(options.limits or {}) do
    counted(user, period).recipients = counted(user, period).recipients + recipients
  end
  return false
end

local function check_local(task, envelope)
  local user = (envelope.user or ''):lower():gsub('%+.*$', '')
  if (envelope.domain or ''):lower() ~= options.hostname or trusted[user] then
    return
  end
  for _, header in ipairs(headers_of(task)) do
    local name = AUTHORS[header[1]]
    local found = name and addresses(header[2])
    if name and not found then
      return refuse(task, 'the header ' .. name .. ' has to be an address such as: ' .. shown(user .. '@' .. options.hostname))
    end
    for _, address in ipairs(found or {}) do
      if address.user:lower():gsub('%+.*$', '') ~= user or address.domain:lower() ~= options.hostname then
        local claimed = shown(address.user .. '@' .. address.domain)
        return refuse(task, 'programs of the user ' .. shown(user) .. ' may not send as ' .. claimed .. ' (in ' .. name .. ')')
      end
    end
  end
  too_many(task, user)
end

-- -- before anything else ------------------------------------------------------------------------------------------------

local function check_login(task)
  local login, authors = task:get_user(), {}
  if not login then
    local envelope, address = (task:get_from('smtp') or {})[1] or {}, task:get_from_ip()
    if (envelope.domain or '') == '' then
      return
    end
    sign_only_for(task, { [envelope.domain:lower()] = true })
    return address and address:is_local() and check_local(task, envelope)
  end
  if not options.senders then
    return
  end
  local text = senders()
  if not text then
    return defer(task)
  end
  for _, header in ipairs(headers_of(task)) do
    local name = AUTHORS[header[1]]
    local found = name and addresses(header[2])
    if name and not found then
      return refuse(task, 'the header ' .. name .. ' has to be an address such as: Eve Example <eve@example.com>')
    end
    for _, address in ipairs(found or {}) do
      if not may(text, login, address) then
        local claimed = shown(address.user .. '@' .. address.domain)
        return refuse(task, 'you are logged in as ' .. shown(login) .. ', who may not send as ' .. claimed .. ' (in ' .. name .. ')')
      end
      authors[name == 'From' and address.domain:lower() or 1] = true
    end
  end
  sign_only_for(task, authors)
end

-- Nothing goes out unchecked, not even if this fails.
local function check_login_or_defer(task)
  local done, fault = pcall(check_login, task)
  if not done then
    require('rspamd_logger').errx(task, 'can not check the sender: %s', fault)
    defer(task)
  end
end

rspamd_config:register_symbol({ name = 'PORT587_LOGIN', type = 'prefilter', callback = check_login_or_defer, priority = 10 })

-- -- from outside ------------------------------------------------------------------------------------------------------

-- The domains of ours that a mail claims to be from.
local function claims(task, envelope)
  local found = {}
  local function claim(domain)
    found[own[domain:lower()] and domain:lower() or 1] = true
  end
  claim(envelope)
  for _, header in ipairs(headers_of(task)) do
    local list = header[1] == 'from' and addresses(header[2])
    for _, address in ipairs(list or {}) do
      claim(address.domain)
    end
    if header[1] == 'from' and not list then
      -- nobody knows what a mail program makes of it
      local text = header[2]
      for _, one in ipairs(task:get_header_full('From') or {}) do
        text = text .. '\n' .. tostring(one.decoded or '')
      end
      for domain in text:gmatch('@%s*([%w.%-\128-\255]+)') do
        claim(domain)
      end
    end
  end
  found[1] = nil
  return found
end

-- Whether a symbol is there for a domain: those of DKIM name it, those of SPF are about the envelope's.
local function is_found(task, symbol, domain)
  for _, result in ipairs(task:get_symbol(symbol) or {}) do
    for _, option in ipairs(result.options or {}) do
      if option:lower():match('^[^:]+') == domain then
        return true
      end
    end
  end
  return false
end

local function check_outside(task)
  local address = task:get_from_ip()
  if task:get_user() or not address or address:is_local() then
    return
  end
  local envelope = (((task:get_from('smtp') or {})[1] or {}).domain or ''):lower()
  local worst
  for domain in pairs(claims(task, envelope)) do
    local by_spf = envelope == domain
    if not (by_spf and task:has_symbol('R_SPF_ALLOW') or is_found(task, 'R_DKIM_ALLOW', domain)) then
      local later = by_spf and task:has_symbol('R_SPF_DNSFAIL') or is_found(task, 'R_DKIM_TEMPFAIL', domain)
      worst = worst ~= 'OWN_DOMAIN_FORGED' and later and 'OWN_DOMAIN_UNKNOWN' or 'OWN_DOMAIN_FORGED'
    end
  end
  if worst then
    task:insert_result(worst, 1.0)
  end
end

local id = rspamd_config:register_symbol({ name = 'PORT587_OUTSIDE', type = 'callback', callback = check_outside })
for _, name in ipairs({ 'OWN_DOMAIN_FORGED', 'OWN_DOMAIN_UNKNOWN' }) do
  rspamd_config:register_symbol({ name = name, type = 'virtual', parent = id, score = 0.0, group = 'port587' })
end
for _, name in ipairs({ 'R_SPF_ALLOW', 'R_DKIM_ALLOW' }) do
  rspamd_config:register_dependency('PORT587_OUTSIDE', name)
end

-- -- the spam filter -----------------------------------------------------------------------------------------------------

local filter = options.spam_filter

local function is_outside(task)
  local address = task:get_from_ip()
  return not task:get_user() and address and address:is_valid() and not address:is_local()
end

-- Whether an entry of a list is about an address: it is this one, or its domain, or one above that.
local function is_about(entry, address)
  local domain = (address.domain or ''):lower()
  if entry:find('@', 1, true) then
    return entry == (address.user or ''):lower() .. '@' .. domain
  end
  return domain == entry or domain:sub(-#entry - 1) == '.' .. entry
end

-- Whether it is a network, and the client is in it.
local function has_client(entry, client)
  local network, bits = entry:match('^([%x.:]+)/?(%d*)$')
  local first = network and network:find('[%d:]') and require('rspamd_ip').from_string(network)
  if not first or not first:is_valid() or first:get_version() ~= client:get_version() then
    return false
  end
  bits = tonumber(bits) or (first:get_version() == 4 and 32 or 128)
  return tostring(first:apply_mask(bits)) == tostring(client:apply_mask(bits))
end

-- Whether an entry counts for all recipients: a mail with several has one verdict.
local function is_for(entry, task)
  if (entry.to or '') == '' then
    return true
  end
  local recipients = task:get_recipients('smtp') or {}
  for _, one in ipairs(recipients) do
    if ((one.user or '') .. '@' .. (one.domain or '')):lower() ~= entry.to then
      return false
    end
  end
  return #recipients > 0
end

-- The entry of a list that is about one of the addresses, or the client.
local function listed(list, task, found)
  for _, entry in ipairs(list or {}) do
    if is_for(entry, task) then
      if has_client(entry.from, task:get_from_ip()) then
        return entry.from
      end
      for _, address in ipairs(found) do
        if is_about(entry.from, address) then
          return entry.from
        end
      end
    end
  end
end

local function check_lists(task)
  if not is_outside(task) then
    return
  end
  local authors, proved = {}, {}
  for _, header in ipairs(headers_of(task)) do
    for _, address in ipairs(header[1] == 'from' and addresses(header[2]) or {}) do
      authors[#authors + 1] = address
    end
  end
  local envelope = (task:get_from('smtp') or {})[1] or {}
  -- one author, whose domain has sent or signed it
  if #authors == 1 then
    local domain = authors[1].domain:lower()
    local by_spf = (envelope.domain or ''):lower() == domain and task:has_symbol('R_SPF_ALLOW')
    if by_spf or is_found(task, 'R_DKIM_ALLOW', domain) then
      proved = authors
    end
  end
  local allowed = listed(filter.allow, task, proved)
  if allowed then
    return task:insert_result('ALLOWED_SENDER', 1.0, allowed)
  end
  authors[#authors + 1] = envelope
  local denied = listed(filter.deny, task, authors)
  if denied then
    task:insert_result('DENIED_SENDER', 1.0, denied)
  end
end

-- What gave points, most first.
local function reasons(task)
  local found = {}
  for _, one in ipairs(task:get_symbols_all() or {}) do
    if one.score and math.abs(one.score) >= 0.05 then
      found[#found + 1] = one
    end
  end
  table.sort(found, function(a, b)
    return a.score > b.score
  end)
  return found
end

-- After all rules: what is refused, with words of our own.
local function check_points(task)
  local score, address = task:get_metric_score('default')[1], task:get_from_ip()
  local login = task:get_user()
  if login and filter.outgoing and score >= filter.outgoing then
    local names = {}
    for number, one in ipairs(reasons(task)) do
      names[number <= 5 and one.score > 0 and number or 6] = one.name
    end
    names[6] = nil
    local text = 'this mail looks like spam (%.1f points, the limit is %.1f: %s); it is not sent. If you have not written it, somebody knows your password'
    require('rspamd_logger').warnx(task, 'outgoing spam refused: login %s, %s points, limit %s, %s recipients',
      shown(login), string.format('%.1f', score), string.format('%.1f', filter.outgoing), #(task:get_recipients('smtp') or {}))
    return refuse(task, text:format(score, filter.outgoing, table.concat(names, ' ')))
  end
  if login or not address or address:is_local() then
    return
  end
  if task:has_symbol('DENIED_SENDER') then
    return refuse(task, 'this server takes no mail from this sender')
  end
  if filter.refuse and score >= filter.refuse then
    local text = 'this mail looks like spam (%.1f points, the limit is %.1f)'
    return refuse(task, text:format(score, filter.refuse))
  end
end

if filter then
  local lists = rspamd_config:register_symbol({ name = 'PORT587_LISTS', type = 'callback', callback = check_lists })
  rspamd_config:register_symbol({ name = 'ALLOWED_SENDER', type = 'virtual', parent = lists, score = -100.0, group = 'port587' })
  rspamd_config:register_symbol({ name = 'DENIED_SENDER', type = 'virtual', parent = lists, score = 100.0, group = 'port587' })
  for _, name in ipairs({ 'R_SPF_ALLOW', 'R_DKIM_ALLOW' }) do
    rspamd_config:register_dependency('PORT587_LISTS', name)
  end
  rspamd_config:register_symbol({ name = 'PORT587_POINTS', type = 'postfilter', callback = check_points, priority = 8 })
end

-- For milter_headers: the names and values of those to add, in SpamAssassin's form, which mail programs know.
port587_spam_headers = function(task)
  if not filter or not is_outside(task) then
    return {}
  end
  local score, lines = task:get_metric_score('default')[1], {}
  local line = string.format('%s, score=%.1f required=%.1f tests=[', score >= filter.junk and 'Yes' or 'No', score, filter.junk)
  for number, one in ipairs(reasons(task)) do
    local word = string.format('%s%s=%.1f', number > 1 and ',' or '', one.name, one.score)
    if #line + #word > 76 then
      lines[#lines + 1] = line
      line = '\t'
    end
    line = line .. word
  end
  lines[#lines + 1] = line .. ']'
  return { ['X-Spam-Status'] = table.concat(lines, '\n') }
end

-- -- headers that people and their Sieve scripts would believe ----------------------------------------------------------

-- For milter_headers: the names of those to remove.
port587_forged_headers = function(task)
  local removed = {}
  for _, header in ipairs(headers_of(task)) do
    local name, value = header[1], header[2]
    for _, pattern in ipairs(VERDICTS) do
      removed[name:find(pattern) and name or 1] = 0
    end
    -- others find loops by theirs
    if DELIVERED[name] then
      for domain in value:lower():gmatch('@([%w.-]+)') do
        removed[own[domain] and name or 1] = 0
      end
    end
  end
  removed[1] = nil
  return removed
end
