// A message's bytes as Gmail's parts (users.messages: `payload`): bytes after the transfer encoding, in the charset that
// their own header names. The emulator takes every message for UTF-8, which real mail is not.

const latin = (buffer) => buffer.toString('latin1')

export function split(bytes) {
  const text = latin(bytes)
  const end = /\r?\n\r?\n/.exec(text)
  const head = end ? text.slice(0, end.index) : text
  const body = end ? bytes.subarray(end.index + end[0].length) : Buffer.alloc(0)
  const headers = []
  for (const line of head.split(/\r?\n/)) {
    if (/^[ \t]/.test(line) && headers.length) headers.at(-1).value += ` ${line.trim()}`
    else if (line.includes(':')) {
      const at = line.indexOf(':')
      headers.push({ name: line.slice(0, at), value: Buffer.from(line.slice(at + 1).trim(), 'latin1').toString('utf8') })
    }
  }
  return { headers, body }
}

export const named = (headers, name) => headers.find((one) => one.name.toLowerCase() === name)?.value ?? ''
// RFC 2231: long or foreign values come in numbered pieces, of which those with a star at their end are percent-encoded.
function parameter(value, name) {
  const pieces = [...value.matchAll(new RegExp(`${name}(?:\\*(\\d+))?(\\*?)=(?:"((?:[^"\\\\]|\\\\.)*)"|([^;\\s]+))`, 'gi'))]
    .sort((one, other) => Number(one[1] ?? 0) - Number(other[1] ?? 0))
  const text = ([, , star, quoted, bare]) => star ? Buffer.from((bare ?? quoted).replace(/^[\w-]*'[\w-]*'/, '')
    .replace(/%([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1').toString('utf8')
    : (quoted ?? bare).replace(/\\(.)/g, '$1')
  return pieces.map(text).join('')
}

function decoded(body, encoding) {
  if (encoding === 'base64') return Buffer.from(latin(body), 'base64')
  if (encoding === 'quoted-printable') {
    const text = latin(body).replace(/=(\r?\n|$)/g, '').replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)))
    return Buffer.from(text, 'latin1')
  }
  return body
}

function parts(body, boundary) {
  const found = []
  const text = latin(body)
  const line = new RegExp(`(?:^|\\r?\\n)--${boundary.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(--)?[ \\t]*(?:\\r?\\n|$)`, 'g')
  let from = -1
  for (const match of text.matchAll(line)) {
    if (from >= 0) found.push(body.subarray(from, match.index))
    if (match[1]) return found
    from = match.index + match[0].length
  }
  if (from >= 0) found.push(body.subarray(from))
  return found
}

// `data`: by attachment id, the bytes of what is not inline.
export function payload(bytes, messageId, data, partId = '') {
  const { headers, body } = split(bytes)
  const type = named(headers, 'content-type') || 'text/plain'
  const mimeType = type.split(';')[0].trim().toLowerCase()
  const disposition = named(headers, 'content-disposition')
  const filename = parameter(disposition, 'filename') || parameter(type, 'name')
  const boundary = parameter(type, 'boundary')
  if (mimeType.startsWith('multipart/') && boundary) {
    const inner = parts(body, boundary).map((part, index) =>
      payload(part, messageId, data, partId ? `${partId}.${index}` : String(index)))
    return { partId, mimeType, filename, headers, body: { size: 0 }, parts: inner }
  }
  const content = decoded(body, named(headers, 'content-transfer-encoding').trim().toLowerCase())
  if (filename || /^attachment/i.test(disposition) || !mimeType.startsWith('text/')) {
    const attachmentId = `att-${messageId}-${partId || '0'}`
    data.set(attachmentId, content)
    return { partId, mimeType, filename, headers, body: { attachmentId, size: content.length } }
  }
  return { partId, mimeType, filename, headers, body: { size: content.length, data: content.toString('base64url') } }
}
