// Decisions as HTTP: problem details (RFC 9457), WWW-Authenticate (RFC 6750), RateLimit and RateLimit-Policy
// (draft-ietf-httpapi-ratelimit-headers), Retry-After (RFC 9110).

import { isPermission } from './permission.mjs';

// To an outsider, three codes are one: they would tell how close a guess was.
const shownAs = { MALFORMED: 'INVALID_KEY', NOT_FOUND: 'INVALID_KEY', SIGNATURE_INVALID: 'INVALID_KEY' };

const texts = {
    MISSING: ['Unauthorized', 'This needs an API key: Authorization: Bearer …'],
    INVALID_KEY: ['Unauthorized', 'The API key is not valid.'],
    EXPIRED: ['Unauthorized', 'The API key has expired.'],
    REVOKED: ['Unauthorized', 'The API key has been withdrawn.'],
    SUPERSEDED: ['Unauthorized', 'The API key has been refreshed, and this older token of it is no longer valid.'],
    DISABLED: ['Forbidden', 'The API key is disabled.'],
    FORBIDDEN: ['Forbidden', 'The API key may not be used from this address or in this environment.'],
    INSUFFICIENT_PERMISSIONS: ['Forbidden', 'The permissions of the API key do not allow this.'],
    RATE_LIMITED: ['Too Many Requests', 'The rate limit of the API key has been reached.'],
    UNAVAILABLE: ['Service Unavailable', 'API keys cannot be checked at present.'],
    REFRESH_TOO_EARLY: ['Conflict', 'The API key cannot be refreshed yet.'],
    ALREADY_REFRESHED: ['Conflict', 'The API key has already been refreshed.'],
};

const quotaExceeded = 'https://iana.org/assignments/http-problem-types#quota-exceeded';
const unavailableRetryS = 2;

const seconds = (ms) => Math.max(0, Math.ceil(ms / 1000));

/** Those of an answer that is let through as well. */
export function rateHeaders({ rate }) {
    if (rate === null || rate === undefined) {
        return {};
    }
    const window = rate.windowMs === null ? '' : `;w=${seconds(rate.windowMs)}`;
    return {
        'ratelimit-policy': `"default";q=${rate.limit}${window}`,
        ratelimit: `"default";r=${rate.remaining};t=${seconds(rate.resetMs)}`,
    };
}

function challenge(code, permission) {
    switch (code) {
        case 'MISSING':
            return 'Bearer realm="apikey"';
        case 'INSUFFICIENT_PERMISSIONS':
            return `Bearer realm="apikey", error="insufficient_scope"${isPermission(permission) ? `, scope="${permission}"` : ''}`;
        default:
            return `Bearer realm="apikey", error="invalid_token", error_description="${texts[code][1]}"`;
    }
}

function retryAfter(status, retryAfterMs) {
    if (status === 503) {
        return { 'retry-after': String(unavailableRetryS) };
    }
    // Never 0: whoever takes that by its word asks again at once, a little too early.
    return status === 429 && Number.isFinite(retryAfterMs) && retryAfterMs !== null
        ? { 'retry-after': String(Math.max(1, seconds(retryAfterMs))) }
        : {};
}

/**
 * What somebody is told whose request was let through, and went wrong here. Not 503: that would ask for it again, and nobody knows
 * what it has done already.
 */
export function mistake() {
    return {
        status: 500,
        headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store' },
        body: { type: 'about:blank', title: 'Internal Server Error', status: 500 },
    };
}

/** {status, headers, body}: what somebody is told whose request is not let through. permission: what it would have needed. */
export function problem(decision, permission = null) {
    const code = shownAs[decision.code] ?? (decision.code in texts ? decision.code : 'UNAVAILABLE');
    const status = code === 'UNAVAILABLE' ? 503 : decision.status;
    const [title, detail] = texts[code];
    const isChallenged = status === 401 || code === 'INSUFFICIENT_PERMISSIONS';
    return {
        status,
        headers: {
            'content-type': 'application/problem+json',
            'cache-control': 'no-store',
            ...(isChallenged && { 'www-authenticate': challenge(code, permission) }),
            ...(status === 429 && rateHeaders(decision)),
            ...retryAfter(status, decision.retryAfterMs),
        },
        body: {
            type: status === 429 ? quotaExceeded : 'about:blank',
            title,
            status,
            detail,
            code,
            ...(code === 'INSUFFICIENT_PERMISSIONS' && { missing: decision.missing ?? [permission] }),
            ...(status === 429 && { 'violated-policies': ['default'] }),
            ...decision.more,
        },
    };
}
