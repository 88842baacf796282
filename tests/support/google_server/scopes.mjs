// Which scopes let which method be called: the discovery documents of Gmail v1 and Calendar v3, for the methods in use.

const G = 'https://www.googleapis.com/auth/gmail.'
const C = 'https://www.googleapis.com/auth/calendar'
const MAIL = 'https://mail.google.com/'
const read = [MAIL, `${G}modify`, `${G}readonly`]
const calendarRead = [C, `${C}.readonly`, `${C}.events`, `${C}.events.readonly`]

const TABLE = [
  ['GET', /^\/gmail\/v1\/users\/[^/]+\/profile$/, [...read, `${G}compose`, `${G}metadata`]],
  ['GET', /^\/gmail\/v1\/users\/[^/]+\/(messages|threads)$/, [...read, `${G}metadata`]],
  ['GET', /^\/gmail\/v1\/users\/[^/]+\/(messages|threads)\/[^/]+$/, [...read, `${G}metadata`]],
  ['GET', /^\/gmail\/v1\/users\/[^/]+\/messages\/[^/]+\/attachments\/[^/]+$/, read],
  ['GET', /^\/gmail\/v1\/users\/[^/]+\/labels(\/[^/]+)?$/, [...read, `${G}labels`, `${G}metadata`]],
  ['GET', /^\/gmail\/v1\/users\/[^/]+\/drafts(\/[^/]+)?$/, [...read, `${G}compose`]],
  ['GET', /^\/gmail\/v1\/users\/[^/]+\/settings\/sendAs$/, [...read, `${G}settings.basic`]],
  ['POST', /^(\/upload)?\/gmail\/v1\/users\/[^/]+\/messages\/send$/, [MAIL, `${G}modify`, `${G}compose`, `${G}send`]],
  ['POST', /^(\/upload)?\/gmail\/v1\/users\/[^/]+\/drafts(\/send)?$/, [MAIL, `${G}modify`, `${G}compose`]],
  ['DELETE', /^\/gmail\/v1\/users\/[^/]+\/drafts\/[^/]+$/, [MAIL, `${G}modify`, `${G}compose`]],
  ['POST', /^\/gmail\/v1\/users\/[^/]+\/(messages|threads)\/[^/]+\/(modify|trash|untrash)$/, [MAIL, `${G}modify`]],
  ['GET', /^\/calendar\/v3\/users\/me\/calendarList$/, [C, `${C}.readonly`, `${C}.calendarlist`, `${C}.calendarlist.readonly`]],
  ['GET', /^\/calendar\/v3\/calendars\/[^/]+\/events(\/[^/]+(\/instances)?)?$/, calendarRead],
  ['POST', /^\/calendar\/v3\/freeBusy$/, [C, `${C}.readonly`, `${C}.freebusy`, `${C}.events.freebusy`]],
  ['POST', /^\/calendar\/v3\/calendars\/[^/]+\/events$/, [C, `${C}.events`]],
  ['PUT', /^\/calendar\/v3\/calendars\/[^/]+\/events\/[^/]+$/, [C, `${C}.events`]],
  ['PATCH', /^\/calendar\/v3\/calendars\/[^/]+\/events\/[^/]+$/, [C, `${C}.events`]],
  ['DELETE', /^\/calendar\/v3\/calendars\/[^/]+\/events\/[^/]+$/, [C, `${C}.events`]],
]

// The scopes of which any one is enough; null where there is no such method.
export function needed(method, path) {
  return TABLE.find(([verb, shape]) => verb === method && shape.test(path))?.[2] ?? null
}
