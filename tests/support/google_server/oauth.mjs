// Google's sign-in for installed apps, as strict as its documentation: registered clients, redirects to loopback alone,
// PKCE (S256), single codes, tokens that end, scopes that a person may leave out, grants that are revoked.
// https://developers.google.com/identity/protocols/oauth2/native-app

import { createHash, randomBytes } from 'node:crypto'

const CODE_S = 60
const TOKEN_S = 3599
const TESTING_S = 7 * 86400

export class Grants {
  constructor(clock) {
    this.now = clock
    this.clients = new Map()
    this.codes = new Map()
    this.tokens = new Map()
    this.refreshes = new Map()
    this.consent = { deny: false, scopes: null, email: '' }
    this.testing = false
  }

  authorize(query) {
    const client = this.clients.get(query.get('client_id'))
    if (!client) return { page: 'Error 401: invalid_client' }
    const redirect = query.get('redirect_uri') ?? ''
    if (!/^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?(\/.*)?$/.test(redirect)) return { page: 'Error 400: redirect_uri_mismatch' }
    if (query.get('response_type') !== 'code') return { page: 'Error 400: invalid_request response_type' }
    if (query.get('code_challenge_method') !== 'S256' || (query.get('code_challenge') ?? '').length !== 43) {
      return { page: 'Error 400: invalid_request PKCE' }
    }
    const asked = (query.get('scope') ?? '').split(' ').filter(Boolean)
    if (!asked.length) return { page: 'Error 400: invalid_scope' }
    const back = new URL(redirect)
    if (query.get('state')) back.searchParams.set('state', query.get('state'))
    if (this.consent.deny) {
      back.searchParams.set('error', 'access_denied')
      return { redirect: back.href }
    }
    const scopes = asked.filter((one) => !this.consent.scopes || this.consent.scopes.includes(one))
    const code = `4/${randomBytes(24).toString('base64url')}`
    const offline = query.get('access_type') === 'offline'
    this.codes.set(code, { client, redirect, scopes, offline, challenge: query.get('code_challenge'), ends: this.now() + CODE_S })
    back.searchParams.set('code', code)
    back.searchParams.set('scope', scopes.join(' '))
    return { redirect: back.href }
  }

  token(form) {
    const client = this.clients.get(form.get('client_id'))
    if (!client || client.secret !== form.get('client_secret')) return { status: 401, error: 'invalid_client', error_description: 'The OAuth client was not found.' }
    if (form.get('grant_type') === 'authorization_code') return this.#exchange(client, form)
    if (form.get('grant_type') === 'refresh_token') return this.#refresh(client, form)
    return { status: 400, error: 'unsupported_grant_type' }
  }

  #exchange(client, form) {
    const code = this.codes.get(form.get('code'))
    this.codes.delete(form.get('code'))
    const verifier = form.get('code_verifier') ?? ''
    const proven = createHash('sha256').update(verifier).digest('base64url') === code?.challenge
    if (!code || code.client !== client || code.ends < this.now() || code.redirect !== form.get('redirect_uri') || !proven) {
      return { status: 400, error: 'invalid_grant', error_description: 'Malformed auth code.' }
    }
    const grant = { client, scopes: code.scopes, since: this.now(), revoked: false, email: this.consent.email }
    const told = this.#issued(grant)
    if (code.offline) {
      told.refresh_token = `1//${randomBytes(30).toString('base64url')}`
      if (this.consent.told && this.testing) told.refresh_token_expires_in = TESTING_S - 1
      this.refreshes.set(told.refresh_token, grant)
    }
    return told
  }

  #refresh(client, form) {
    const grant = this.refreshes.get(form.get('refresh_token'))
    const old = grant && this.testing && this.now() - grant.since > TESTING_S
    if (!grant || grant.client !== client || grant.revoked || old) {
      return { status: 400, error: 'invalid_grant', error_description: 'Token has been expired or revoked.' }
    }
    return this.#issued(grant)
  }

  #issued(grant) {
    const access = `ya29.${randomBytes(40).toString('base64url')}`
    this.tokens.set(access, { grant, ends: this.now() + TOKEN_S })
    return { access_token: access, expires_in: TOKEN_S, scope: grant.scopes.join(' '), token_type: 'Bearer' }
  }

  // Revoking a token revokes the whole grant of its client.
  revoke(token) {
    const grant = this.refreshes.get(token) ?? this.tokens.get(token)?.grant
    if (!grant || grant.revoked) return false
    grant.revoked = true
    return true
  }

  revokeAll() {
    for (const grant of this.refreshes.values()) grant.revoked = true
  }

  expireAccess() {
    this.tokens.clear()
  }

  holder(header) {
    const token = this.tokens.get(/^Bearer (.+)$/.exec(header ?? '')?.[1])
    return token && !token.grant.revoked && token.ends > this.now() ? token.grant : null
  }
}
