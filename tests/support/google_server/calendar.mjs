// Calendars as Calendar v3 keeps them: whole resources, etags, series and their exceptions, ids that a client may choose,
// times that need a zone. https://developers.google.com/workspace/calendar/api/v3/reference/events

import { createHash, randomUUID } from 'node:crypto'
import rrule from 'rrule'

const { RRule } = rrule
const ID = /^[a-v0-9]{5,1024}$/
const pad = (number) => String(number).padStart(2, '0')

// Minutes that a zone is ahead of UTC at an instant.
function offset(instantMs, zone) {
  const parts = new Intl.DateTimeFormat('en-US', { timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' })
    .formatToParts(new Date(instantMs)).reduce((all, { type, value }) => ({ ...all, [type]: Number(value) }), {})
  return Math.round((Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second) - instantMs) / 60000)
}

// The instant at which a zone's clocks show this; wall: milliseconds as if it were UTC.
function instant(wallMs, zone) {
  let guess = wallMs - offset(wallMs, zone) * 60000
  guess = wallMs - offset(guess, zone) * 60000
  return guess
}

function iso(instantMs, zone) {
  const ahead = offset(instantMs, zone)
  const wall = new Date(instantMs + ahead * 60000).toISOString().slice(0, 19)
  return ahead ? `${wall}${ahead < 0 ? '-' : '+'}${pad(Math.floor(Math.abs(ahead) / 60))}:${pad(Math.abs(ahead) % 60)}` : `${wall}Z`
}

const zoned = (text) => /(Z|[+-]\d\d:\d\d)$/.test(text)
const knownZone = (zone) => { try { new Intl.DateTimeFormat('en-US', { timeZone: zone }); return true } catch { return false } }

function begins(time, zone) {
  if (time.date) return instant(Date.parse(`${time.date}T00:00:00Z`), zone)
  return zoned(time.dateTime) ? Date.parse(time.dateTime) : instant(Date.parse(`${time.dateTime}Z`), time.timeZone ?? zone)
}

export class Calendars {
  constructor(email, zone, clock) {
    this.email = email
    this.zone = zone
    this.now = clock
    this.list = [{ kind: 'calendar#calendarListEntry', id: email, summary: email, timeZone: zone, primary: true, accessRole: 'owner', selected: true }]
    this.events = new Map([[email, new Map()]])
    this.told = []
  }

  add(id, summary, role = 'reader', timeZone = this.zone) {
    this.list.push({ kind: 'calendar#calendarListEntry', id, summary, timeZone, accessRole: role, selected: true })
    this.events.set(id, new Map())
  }

  // As somebody else puts it there, or changes it.
  seed(calendar, event) {
    const entry = this.list.find((one) => one.id === calendar)
    const role = entry.accessRole
    entry.accessRole = 'owner'
    const told = this.insert(calendar, event, new URLSearchParams())
    entry.accessRole = role
    if (event.organizer && told.event) this.events.get(calendar).get(told.event.id).organizer = event.organizer // who invited
    return told.event ?? told
  }

  touch(id) {
    for (const held of this.events.values()) if (held.has(id)) return this.sealed(held.get(id))
    return {}
  }

  of(id) {
    const name = id === 'primary' ? this.email : id
    const held = this.events.get(name)
    return held && { held, entry: this.list.find((one) => one.id === name) }
  }

  problem(status, reason, message) { return { status, reason, message } }

  wrong(event, entry) {
    for (const side of ['start', 'end']) {
      const time = event[side]
      if (!time || (!time.date && !time.dateTime)) return this.problem(400, 'required', `Missing ${side} time.`)
      if (time.date && time.dateTime) return this.problem(400, 'invalid', 'Invalid start time.')
      if (time.date && !/^\d{4}-\d\d-\d\d$/.test(time.date)) return this.problem(400, 'invalid', `Invalid ${side} time.`)
      if (time.dateTime && (Number.isNaN(Date.parse(zoned(time.dateTime) ? time.dateTime : `${time.dateTime}Z`)) || (!zoned(time.dateTime) && !time.timeZone))) {
        return this.problem(400, 'required', `Missing time zone definition for ${side} time.`)
      }
      if (time.timeZone && !knownZone(time.timeZone)) return this.problem(400, 'invalid', 'Invalid time zone.')
    }
    if (!event.start.date !== !event.end.date) return this.problem(400, 'invalid', 'Start and end times must either both be date or both be dateTime.')
    if (begins(event.end, entry.timeZone) < begins(event.start, entry.timeZone)) return this.problem(400, 'timeRangeEmpty', 'The specified time range is empty.')
    if (event.recurrence?.length && event.start.dateTime && !event.start.timeZone) return this.problem(400, 'required', 'Missing time zone definition for start time.')
    for (const rule of event.recurrence ?? []) {
      if (!/^(RRULE|EXDATE|RDATE|EXRULE)[:;]/.test(rule)) return this.problem(400, 'invalid', 'Invalid recurrence rule.')
      if (rule.startsWith('RRULE:')) try { RRule.parseString(rule.slice(6)) } catch { return this.problem(400, 'invalid', 'Invalid recurrence rule.') }
    }
    return null
  }

  sealed(event) {
    event.updated = new Date(this.now() * 1000).toISOString()
    event.etag = `"${createHash('md5').update(JSON.stringify({ ...event, etag: '' }) + randomUUID()).digest('hex').slice(0, 16)}"`
    return event
  }

  insert(calendar, body, query) {
    const found = this.of(calendar)
    if (!found) return this.problem(404, 'notFound', 'Not Found')
    if (!['owner', 'writer'].includes(found.entry.accessRole)) return this.problem(403, 'requiredAccessLevel', 'You need to have writer access to this calendar.')
    const wrong = this.wrong(body, found.entry)
    if (wrong) return wrong
    if (body.id !== undefined && !ID.test(body.id)) return this.problem(400, 'invalid', 'Invalid resource id value.')
    if (found.held.has(body.id)) return this.problem(409, 'duplicate', 'The requested identifier already exists.')
    const id = body.id ?? createHash('sha256').update(randomUUID()).digest('hex').replace(/[w-z]/g, '0').slice(0, 26)
    const event = this.sealed({
      kind: 'calendar#event', status: 'confirmed', ...body, id, iCalUID: `${id}@google.com`, sequence: 0, created: new Date(this.now() * 1000).toISOString(),
      creator: { email: this.email, self: true }, organizer: { email: found.entry.id, self: true }, htmlLink: `https://www.google.com/calendar/event?eid=${id}`,
      reminders: body.reminders ?? { useDefault: true },
    })
    found.held.set(id, event)
    this.told.push({ verb: 'insert', id, sendUpdates: query.get('sendUpdates') ?? 'none', attendees: event.attendees ?? [] })
    return { event }
  }

  find(calendar, id) {
    const found = this.of(calendar)
    if (!found) return null
    const held = found.held.get(id)
    if (held) return { ...found, event: held }
    const at = /^(.+)_(\d{8}(?:T\d{6}Z)?)$/.exec(id)
    const series = at && found.held.get(at[1])
    const instance = series && this.instances(series, found.entry).find((one) => one.id === id)
    return instance ? { ...found, event: instance, virtual: true } : null
  }

  get(calendar, id) {
    const found = this.find(calendar, id)
    return found ? { event: found.event } : this.problem(404, 'notFound', 'Not Found')
  }

  change(calendar, id, body, query, match, whole) {
    const found = this.find(calendar, id)
    if (!found) return this.problem(404, 'notFound', 'Not Found')
    if (found.event.status === 'cancelled') return this.problem(410, 'deleted', 'Resource has been deleted')
    if (!['owner', 'writer'].includes(found.entry.accessRole)) return this.problem(403, 'requiredAccessLevel', 'You need to have writer access to this calendar.')
    if (match && match !== found.event.etag && match !== '*') return this.problem(412, 'conditionNotMet', 'Precondition Failed')
    const { id: _id, etag: _etag, ...rest } = body
    const next = whole ? { ...found.event, summary: undefined, description: undefined, location: undefined, attendees: undefined, ...rest } : { ...found.event, ...rest }
    for (const name of Object.keys(next)) if (next[name] === null) delete next[name]
    const wrong = this.wrong(next, found.entry)
    if (wrong) return wrong
    next.sequence = (next.sequence ?? 0) + 1
    found.held.set(id, this.sealed(next))
    this.told.push({ verb: 'change', id, sendUpdates: query.get('sendUpdates') ?? 'none', attendees: next.attendees ?? [] })
    return { event: next }
  }

  remove(calendar, id, query, match) {
    const found = this.find(calendar, id)
    if (!found) return this.problem(404, 'notFound', 'Not Found')
    if (found.event.status === 'cancelled') return this.problem(410, 'deleted', 'Resource has been deleted')
    if (!['owner', 'writer'].includes(found.entry.accessRole)) return this.problem(403, 'requiredAccessLevel', 'You need to have writer access to this calendar.')
    if (match && match !== found.event.etag) return this.problem(412, 'conditionNotMet', 'Precondition Failed')
    found.held.set(id, this.sealed({ ...found.event, status: 'cancelled' }))
    this.told.push({ verb: 'delete', id, sendUpdates: query.get('sendUpdates') ?? 'none', attendees: found.event.attendees ?? [] })
    return {}
  }

  // All occurrences of a series, exceptions in their places.
  instances(series, entry) {
    const zone = series.start.timeZone ?? entry.timeZone
    const first = begins(series.start, entry.timeZone)
    const lasts = begins(series.end, entry.timeZone) - first
    const wall = series.start.date ? Date.parse(`${series.start.date}T00:00:00Z`) : first + offset(first, zone) * 60000
    const rule = series.recurrence.find((one) => one.startsWith('RRULE:'))
    const options = { ...RRule.parseString(rule.slice(6)), dtstart: new Date(wall) }
    if (options.until && !series.start.date) options.until = new Date(options.until.getTime() + offset(options.until.getTime(), zone) * 60000)
    const left = new Set(series.recurrence.filter((one) => one.startsWith('EXDATE')).flatMap((one) => one.split(':')[1].split(',')))
    const found = []
    for (const at of new RRule(options).between(new Date(wall), new Date(wall + 3 * 366 * 86400000), true)) {
      const stamp = at.toISOString().replace(/[-:]|\.\d+/g, '')
      const begin = series.start.date ? 0 : instant(at.getTime(), zone)
      const named = series.start.date ? stamp.slice(0, 8) : new Date(begin).toISOString().replace(/[-:]|\.\d+/g, '')
      if (left.has(stamp.slice(0, -1)) || left.has(named) || left.has(stamp.slice(0, 8))) continue
      const day = (ms) => new Date(ms).toISOString().slice(0, 10)
      const time = series.start.date ? [{ date: day(at) }, { date: day(at.getTime() + lasts) }]
        : [{ dateTime: iso(begin, zone), timeZone: zone }, { dateTime: iso(begin + lasts, zone), timeZone: zone }]
      const { recurrence: _, ...rest } = series
      found.push({ ...rest, id: `${series.id}_${named}`, recurringEventId: series.id, originalStartTime: time[0], start: time[0], end: time[1] })
    }
    return found
  }

  listed(calendar, query) {
    const found = this.of(calendar)
    if (!found) return this.problem(404, 'notFound', 'Not Found')
    const single = query.get('singleEvents') === 'true'
    if (query.get('orderBy') === 'startTime' && !single) return this.problem(400, 'invalid', 'The requested ordering is not available for the particular query.')
    for (const name of ['timeMin', 'timeMax']) if (query.get(name) && !zoned(query.get(name))) return this.problem(400, 'invalid', 'Bad Request')
    const all = []
    for (const event of found.held.values()) {
      if (single && event.recurrence?.length) {
        all.push(...this.instances(event, found.entry).filter((one) => !found.held.has(one.id)))
      } else all.push(event)
    }
    const from = query.get('timeMin') ? Date.parse(query.get('timeMin')) : -Infinity
    const to = query.get('timeMax') ? Date.parse(query.get('timeMax')) : Infinity
    const words = (query.get('q') ?? '').toLowerCase()
    const text = (one) => [one.summary, one.description, one.location, ...(one.attendees ?? []).map((who) => `${who.email} ${who.displayName ?? ''}`)].join(' ').toLowerCase()
    const shown = all.filter((one) => (query.get('showDeleted') === 'true' || one.status !== 'cancelled')
      && begins(one.end, found.entry.timeZone) > from && begins(one.start, found.entry.timeZone) < to && (!words || text(one).includes(words)))
    if (query.get('orderBy') === 'startTime') shown.sort((a, b) => begins(a.start, found.entry.timeZone) - begins(b.start, found.entry.timeZone))
    const size = Math.min(Number(query.get('maxResults') ?? 250), 2500)
    const start = Number(query.get('pageToken') ?? 0)
    const next = start + size < shown.length ? { nextPageToken: String(start + size) } : {}
    return { list: { kind: 'calendar#events', summary: found.entry.summary, timeZone: found.entry.timeZone, accessRole: found.entry.accessRole, items: shown.slice(start, start + size), ...next } }
  }

  busy(body) {
    if (Date.parse(body.timeMax) - Date.parse(body.timeMin) > 90 * 86_400_000) return this.problem(400, 'timeRangeTooLong', 'The requested time range is too long.')
    const calendars = {}
    for (const { id } of body.items ?? []) {
      const found = this.of(id)
      if (!found) { calendars[id] = { errors: [{ domain: 'global', reason: 'notFound' }], busy: [] }; continue }
      const told = this.listed(id, new URLSearchParams({ singleEvents: 'true', timeMin: body.timeMin, timeMax: body.timeMax, orderBy: 'startTime' }))
      const spans = told.list.items.filter((one) => one.transparency !== 'transparent' && !(one.attendees ?? []).some((who) => who.email === this.email && who.responseStatus === 'declined'))
        .map((one) => [begins(one.start, found.entry.timeZone), begins(one.end, found.entry.timeZone)])
      const joined = []
      for (const [a, b] of spans) {
        const last = joined.at(-1)
        if (last && a <= last[1]) last[1] = Math.max(last[1], b)
        else joined.push([Math.max(a, Date.parse(body.timeMin)), Math.min(b, Date.parse(body.timeMax))])
      }
      calendars[id] = { busy: joined.map(([a, b]) => ({ start: new Date(a).toISOString().replace('.000', ''), end: new Date(b).toISOString().replace('.000', '') })) }
    }
    return { kind: 'calendar#freeBusy', timeMin: body.timeMin, timeMax: body.timeMax, calendars }
  }
}
