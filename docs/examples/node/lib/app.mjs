// The HTTP side: routes, the token from the request, the answer, one log line. What a route does comes from service.mjs.

import http from 'node:http';
import { isIP } from 'node:net';

import { mistake, problem, rateHeaders } from './answers.mjs';
import { describe, reason } from './log.mjs';

/** null: there is none. A header that is no bearer token is an empty one, which nothing accepts. */
export function bearerToken(authorization) {
    if (authorization === undefined) {
        return null;
    }
    return /^Bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1] ?? '';
}

/**
 * An address as PostgreSQL takes it, or null. Proxies write more than addresses: a port behind it, brackets or quotes around it, the
 * zone of a link-local one; and `unknown`, or a name of their own (RFC 7239 section 6), where they tell none.
 */
export function readAddress(text) {
    const [, quoted] = /^"(.*)"$/.exec(text.trim()) ?? [];
    const node = quoted ?? text.trim();
    const [, bracketed] = /^\[(.*)\](?::[^:]*)?$/.exec(node) ?? [];
    const [, beforePort] = /^([0-9.]+):[^:]*$/.exec(node) ?? [];
    const address = (bracketed ?? beforePort ?? node).replace(/%.*$/, '').replace(/^::ffff:(?=[0-9.]+$)/i, '');
    return isIP(address) === 0 ? null : address;
}

/**
 * The client's address, or null where nobody tells it. hops: how many proxies of our own are in front; what others put into the
 * header counts for nothing.
 */
export function clientAddress(request, hops) {
    const forwarded = (request.headers['x-forwarded-for'] ?? '').split(',');
    return readAddress((hops > 0 ? forwarded.at(-hops) : request.socket.remoteAddress) ?? '');
}

function write(response, { status, headers = {}, body }) {
    const text = JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers });
    response.end(text);
}

// What a client may be told about a key whose token it holds.
const refreshed = ({ token, expires_at: expiresAt, refresh_after: refreshAfter }) => ({ token, expiresAt, refreshAfter });

/**
 * routes: {'GET /path': {permission, cost, strict, handle}}. handle({principal, request}) → the body of a 200; it may read the
 * request's, and when it throws, the answer is 500.
 * Returns a node:http server that does not listen yet.
 */
export function createApp({ decider, postgres, health, routes, forwardedHops = 0, log }) {
    function send(response, result) {
        // Once the server takes no more connections, those that it has end with their answer.
        response.shouldKeepAlive &&= server.listening;
        write(response, result);
    }

    async function guarded(route, request) {
        const { permission = null, cost = 1, strict = false } = route;
        const token = bearerToken(request.headers.authorization);
        const client = clientAddress(request, forwardedHops);
        const decision = await decider.decide({ token, permission, client, cost, strict });
        if (decision.status !== 200 || decision.principal === null) {
            return { decision, answer: problem(decision, permission) };
        }
        const headers = {
            'cache-control': 'no-store',
            ...rateHeaders(decision),
            ...(decision.refreshDue && { 'apikey-refresh-due': '?1' }),
        };
        return { decision, answer: { status: 200, headers, body: await route.handle({ principal: decision.principal, request }) } };
    }

    /** apikey.refresh() is not told the client's address, so the token is validated first, which looks at it. */
    async function refresh(request) {
        const token = bearerToken(request.headers.authorization);
        const client = clientAddress(request, forwardedHops);
        const decision = await decider.decide({ token, client, cost: 0, strict: true });
        // A used-up limit is no reason to let a key expire.
        if (decision.status !== 200 && decision.code !== 'RATE_LIMITED') {
            return { decision, answer: problem(decision) };
        }
        let result;
        try {
            result = await postgres.refresh(token);
        } catch (error) {
            log('postgres_unavailable', reason(error));
            result = { denied: 'UNAVAILABLE', status: 503 };
        }
        if (result.denied !== undefined) {
            const denied = { ...decision, code: result.denied, status: result.status, retryAfterMs: null };
            const opens = result.detail?.refresh_after;
            return { decision: denied, answer: problem({ ...denied, ...(opens && { more: { refreshAfter: opens } }) }) };
        }
        return { decision, answer: { status: 200, headers: { 'cache-control': 'no-store' }, body: refreshed(result) } };
    }

    async function answer(request, response) {
        const startedAt = performance.now();
        // A token has no place in a URL, and the path is logged as the name of its route, so that one that is there stays here.
        const name = `${request.method} ${request.url.split('?')[0]}`;
        if (name === 'GET /healthz') {
            const report = await health();
            return send(response, { status: report.ok ? 200 : 503, body: report });
        }
        const route = Object.hasOwn(routes, name) ? routes[name] : undefined;
        if (route === undefined && name !== 'POST /token/refresh') {
            return send(response, {
                status: 404,
                headers: { 'content-type': 'application/problem+json' },
                body: { type: 'about:blank', title: 'Not Found', status: 404 },
            });
        }
        const { decision, answer: result } = route === undefined ? await refresh(request) : await guarded(route, request);
        send(response, result);
        log('request', {
            route: name, status: result.status, code: decision.code, by: decision.by, why: decision.why, keyId: decision.keyId,
            ms: Math.round(performance.now() - startedAt),
        });
    }

    const server = http.createServer((request, response) => {
        answer(request, response).catch((error) => {
            log('failure', describe(error));
            if (response.headersSent) {
                response.destroy();
            } else {
                send(response, mistake());
            }
        }).finally(() => {
            // A body that nobody has read (to the end) is in the way of the connection's next request. Not before the answer: it
            // is the handler's, and whether there will be one is decided after a while.
            request.resume();
        });
    });
    server.requestTimeout = 30_000;
    server.headersTimeout = 10_000;
    return server;
}
