// Google on loopback: `node server.mjs`, its address on the first line of standard output. Mail is kept by
// @emulators/google; around it stands what that one lets through: tokens, scopes, ends, real MIME, faults on demand.
// CONTROL in the environment is the word that lets a test set it up, at POST /control.

import { createServer } from '@emulators/core'
import { googlePlugin, seedFromConfig, getGoogleStore } from '@emulators/google'
import { serve } from '@hono/node-server'
import { Calendars } from './calendar.mjs'
import { named, payload, split } from './mime.mjs'
import { Grants } from './oauth.mjs'
import { needed } from './scopes.mjs'

const EMAIL = process.env.EMAIL ?? 'me@example.org'
const INNER = 'inner'
let ahead = 0
const now = () => Date.now() / 1000 + ahead
const grants = new Grants(now)
grants.consent.email = EMAIL
const calendars = new Calendars(EMAIL, process.env.ZONE ?? 'Europe/Vienna', now)
const log = []
let faults = []

const inner = createServer(googlePlugin, { port: 1, baseUrl: 'http://127.0.0.1', tokens: { [INNER]: { login: EMAIL, id: 1 } } })
seedFromConfig(inner.store, 'http://127.0.0.1', { users: [{ email: EMAIL, name: 'Me' }] })
const held = getGoogleStore(inner.store)

const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json; charset=UTF-8', ...headers } })
const problem = (code, status, message, reason) => json(code, { error: { code, message, status, errors: [{ message, domain: 'global', reason }] } },
  code === 401 ? { 'www-authenticate': 'Bearer realm="https://accounts.google.com/", error="invalid_token"' } : {})

async function passed(method, url, body, type) {
  const headers = { authorization: `Bearer ${INNER}`, ...(type ? { 'content-type': type } : {}) }
  return inner.app.fetch(new Request(`http://127.0.0.1${url.pathname}${url.search}`, { method, headers, body: body || undefined }))
}

const attachments = new Map()

const bytesOf = (id) => Buffer.from(held.messages.findOneBy('gmail_id', id)?.raw ?? '', 'base64url')

function withMime(resource, format, wanted) {
  const bytes = bytesOf(resource.id)
  if (!bytes.length || !resource.payload) return
  if (format === 'full') resource.payload = payload(bytes, resource.id, attachments)
  else resource.payload.headers = split(bytes).headers.filter((one) => !wanted.length || wanted.includes(one.name.toLowerCase()))
}

// The emulator finds nothing by Message-ID.
async function byMessageId(method, url) {
  const id = /\brfc822msgid:(\S+)/.exec(url.searchParams.get('q'))[1].replace(/[<>]/g, '')
  url.searchParams.set('q', url.searchParams.get('q').replace(/\brfc822msgid:\S+/, '').trim())
  const told = await (await passed(method, url)).json()
  const messages = (told.messages ?? []).filter((one) => named(split(bytesOf(one.id)).headers, 'message-id').replace(/[<>]/g, '') === id)
  return json(200, messages.length ? { messages, resultSizeEstimate: messages.length } : { resultSizeEstimate: 0 })
}

async function gmail(method, url, body, type) {
  const path = url.pathname
  if (/\/profile$/.test(path)) return json(200, { emailAddress: EMAIL, messagesTotal: held.messages.all().length, threadsTotal: 1, historyId: '1' })
  const part = /\/messages\/[^/]+\/attachments\/([^/]+)$/.exec(path)
  if (part) {
    const content = attachments.get(decodeURIComponent(part[1]))
    return content ? json(200, { size: content.length, data: content.toString('base64url') }) : problem(404, 'NOT_FOUND', 'Requested entity was not found.', 'notFound')
  }
  if (/\/messages$/.test(path) && /\brfc822msgid:/.test(url.searchParams.get('q') ?? '')) return byMessageId(method, url)
  const answer = await passed(method, url, body, type)
  const format = url.searchParams.get('format') ?? 'full'
  const shaped = ['full', 'metadata'].includes(format) && /\/(messages|threads|drafts)\/[^/]+$/.test(path)
  if (method !== 'GET' || answer.status !== 200 || !shaped) return answer
  const told = await answer.json()
  const wanted = url.searchParams.getAll('metadataHeaders').map((one) => one.toLowerCase())
  for (const one of told.messages ?? [told.message ?? told]) withMime(one, format, wanted)
  return json(200, told)
}

function calendar(method, url, body, match) {
  const path = url.pathname.replace('/calendar/v3', '')
  if (path === '/users/me/calendarList') return json(200, { kind: 'calendar#calendarList', items: calendars.list })
  if (path === '/freeBusy') {
    const told = calendars.busy(JSON.parse(body))
    return told.reason ? problem(told.status, '', told.message, told.reason) : json(200, told)
  }
  const [, id, event] = /^\/calendars\/([^/]+)\/events(?:\/([^/]+))?$/.exec(path)
  const of = decodeURIComponent(id)
  const query = url.searchParams
  const told = !event ? (method === 'GET' ? calendars.listed(of, query) : calendars.insert(of, JSON.parse(body), query))
    : method === 'GET' ? calendars.get(of, decodeURIComponent(event))
      : method === 'DELETE' ? calendars.remove(of, decodeURIComponent(event), query, match)
        : calendars.change(of, decodeURIComponent(event), JSON.parse(body), query, match, method === 'PUT')
  if (told.reason) return problem(told.status, '', told.message, told.reason)
  return method === 'DELETE' ? new Response(null, { status: 204 }) : json(200, told.event ?? told.list)
}

function control(order) {
  switch (order.op) {
    case 'client': grants.clients.set(order.id, { id: order.id, secret: order.secret }); return {}
    case 'consent': Object.assign(grants.consent, order.set); return {}
    case 'clock': ahead += order.ahead_s; return {}
    case 'testing': grants.testing = true; return {}
    case 'revoke': grants.revokeAll(); return {}
    case 'expire': grants.expireAccess(); return {}
    case 'fault': faults.push({ times: 1, ...order.fault, match: new RegExp(order.fault.match) }); return {}
    case 'log': return log
    case 'forget': log.length = 0; faults = []; return {}
    case 'calendar': calendars.add(order.id, order.summary, order.role, order.zone); return {}
    case 'told': return calendars.told
    case 'events': return [...calendars.events.values()].flatMap((one) => [...one.values()])
    case 'event': return calendars.seed(order.calendar || EMAIL, order.event)
    case 'touch': return calendars.touch(order.id)
    case 'label': held.labels.insert({ gmail_id: order.id, user_email: EMAIL, name: order.name, type: 'user', message_list_visibility: 'show', label_list_visibility: 'labelShow', color_background: null, color_text: null }); return {}
    case 'messages': return held.messages.all().map((one) => ({ id: one.gmail_id, thread: one.thread_id, labels: one.label_ids, raw: one.raw }))
    default: return null
  }
}

async function seeded(order) {
  const url = new URL('http://127.0.0.1/gmail/v1/users/me/messages?internalDateSource=dateHeader')
  const body = JSON.stringify({ raw: order.raw, labelIds: order.labels ?? ['INBOX', 'UNREAD'], ...(order.thread ? { threadId: order.thread } : {}) })
  return (await passed('POST', url, body, 'application/json')).json()
}

async function answered(request, { incoming }) {
  const url = new URL(request.url)
  const body = request.method === 'GET' ? '' : await request.text()
  if (url.pathname === '/control') {
    if (request.headers.get('authorization') !== process.env.CONTROL) return json(403, {})
    const order = JSON.parse(body)
    return json(200, order.op === 'message' ? await seeded(order) : control(order))
  }
  const line = { method: request.method, path: url.pathname + url.search, body, status: 0 }
  log.push(line)
  const fault = faults.find((one) => one.times > 0 && one.match.test(`${request.method} ${url.pathname}`))
  if (fault) {
    fault.times -= 1
    if (fault.delay_ms) await new Promise((done) => setTimeout(done, fault.delay_ms))
    if (fault.done) await routed(request, url, body)
    if (fault.status) {
      line.status = fault.status
      return new Response(fault.body ?? JSON.stringify({ error: { code: fault.status, message: 'a fault', status: fault.name ?? '', errors: [{ reason: fault.reason ?? '' }] } }),
        { status: fault.status, headers: { 'content-type': fault.type ?? 'application/json', ...fault.headers } })
    }
    if (fault.done || fault.drop) {
      incoming.socket.destroy()
      return new Response(null)
    }
  }
  const answer = await routed(request, url, body)
  line.status = answer.status
  answer.headers.set('date', new Date(now() * 1000).toUTCString())
  return answer
}

async function routed(request, url, body) {
  if (url.pathname === '/o/oauth2/v2/auth') {
    const told = grants.authorize(url.searchParams)
    return told.redirect ? new Response(null, { status: 302, headers: { location: told.redirect } }) : new Response(told.page, { status: 400 })
  }
  if (url.pathname === '/token' && request.method === 'POST') {
    const { status = 200, ...told } = grants.token(new URLSearchParams(body))
    return json(status, told)
  }
  if (url.pathname === '/revoke' && request.method === 'POST') {
    const token = new URLSearchParams(body).get('token') ?? url.searchParams.get('token')
    return grants.revoke(token) ? json(200, {}) : json(400, { error: 'invalid_token', error_description: 'Token expired or revoked' })
  }
  const wanted = needed(request.method, url.pathname)
  if (!wanted) return problem(404, 'NOT_FOUND', 'Not Found', 'notFound')
  const grant = grants.holder(request.headers.get('authorization'))
  if (!grant) return problem(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.', 'authError')
  if (!wanted.some((one) => grant.scopes.includes(one))) return problem(403, 'PERMISSION_DENIED', 'Request had insufficient authentication scopes.', 'insufficientPermissions')
  if (url.pathname.startsWith('/calendar/')) return calendar(request.method, url, body, request.headers.get('if-match'))
  return gmail(request.method, url, body, request.headers.get('content-type') ?? '')
}

const server = serve({ fetch: answered, port: 0, hostname: '127.0.0.1' }, ({ port }) => console.log(`http://127.0.0.1:${port}`))
process.stdin.resume()
process.stdin.on('end', () => { server.close(); process.exit(0) })  // whoever started it is gone
