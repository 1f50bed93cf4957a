// The whole service over HTTP, with a private Redis whose state is written as the mirror writes it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';

import { exportSPKI } from 'jose';

import {
    audience, issuer, makeSigningKey, makeToken, MirrorWriter, patienceMs, postgresSays, PrivateRedis, startService, stopServices, until,
} from './support.mjs';

const b64 = (text) => Buffer.from(text).toString('base64url');
const unlimited = { permissions: ['chat:*', 'dataset:*', 'node:*:restart'], rate: null, refresh_window_ms: 86_400_000 };

let redis;
let mirror;
let ed;
let ec;
const services = [];

before(async () => {
    redis = await new PrivateRedis().start();
    mirror = new MirrorWriter(redis, 'test-1');
    [ed, ec] = await Promise.all(['EdDSA', 'ES256'].map(makeSigningKey));
    await mirror.jwks(ed.jwk, ec.jwk);
    await mirror.role('contributor', unlimited);
    await mirror.role('limited', { permissions: ['dataset:*'], rate: { limit: 2, window_ms: 86_400_000 } });
    await mirror.ready();
});

after(async () => {
    await stopServices();
    await redis.stop();
});

/** Watermarks are as of now, so that the test before may have taken its time. */
async function start(options = {}) {
    await mirror.ready();
    const service = await startService({ socket: redis.socket, namespace: 'test-1', ...options });
    services.push(service);
    return service;
}

const askedNobody = (service) => assert.equal(service.postgres.asked.length, 0, 'PostgreSQL is not asked');

/** What an outsider sees of an answer. */
const seen = ({ status, headers, body }) => JSON.stringify({
    status, body, headers: [...headers].filter(([name]) => !['date', 'connection', 'keep-alive'].includes(name)),
});

test('a good token is decided here, whatever its algorithm', async () => {
    const service = await start();
    for (const key of [ed, ec]) {
        const { status, body, headers } = await service.get('/read', await makeToken(key));
        assert.deepEqual([status, body.owner, body.role, body.environment], [200, 'acme', 'contributor', 'live']);
        assert.equal(headers.get('apikey-refresh-due'), null);
    }
    askedNobody(service);
    assert.deepEqual(service.log.map(({ event, route, status, by }) => [event, route, status, by]), Array(2).fill(['request', 'GET /read', 200, 'node']));
});

test('a bad token is refused here, and all bad tokens look alike', async () => {
    const service = await start();
    const good = await makeToken(ed);
    const [header, claims, signature] = good.split('.');
    const id = randomUUID();
    const hmac = async (secret, kid = ed.kid) => {
        const input = `${b64(`{"typ":"apikey+jwt","alg":"HS256","kid":"${kid}"}`)}.${claims}`;
        return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
    };
    const signed = (change, headerChange) => makeToken(ed, change, headerChange);
    const wrong = {
        'another one\'s signature': `${header}.${claims}.${(await makeToken(ed)).split('.')[2]}`,
        'signed by another key under this kid': await makeToken({ ...(await makeSigningKey()), kid: ed.kid }),
        'other claims': `${header}.${b64(Buffer.from(claims, 'base64url').toString().replace('contributor', 'admin'))}.${signature}`,
        'HS256 with the public key': await hmac(Buffer.from(ed.jwk.x, 'base64url')),
        'HS256 with the public key as JWK': await hmac(JSON.stringify(ed.jwk)),
        'HS256 with the public key as PEM': await hmac(await exportSPKI(ed.publicKey)),
        'HS256 with the other public key as PEM': await hmac(await exportSPKI(ec.publicKey), ec.kid),
        'HS256 with nothing': await hmac(''),
        'none': `${b64(`{"typ":"apikey+jwt","alg":"none","kid":"${ed.kid}"}`)}.${claims}.`,
        'none, signed': `${b64(`{"typ":"apikey+jwt","alg":"none","kid":"${ed.kid}"}`)}.${claims}.${signature}`,
        'ES256 under the kid of EdDSA': await makeToken({ ...ec, kid: ed.kid }),
        'an empty signature': `${header}.${claims}.`,
        'a shorter signature': good.slice(0, -4),
        'bits left over': `${good.slice(0, -1)}${{ A: 'B', Q: 'R', g: 'h', w: 'x' }[good.at(-1)]}`,
        'padding': `${good}=`,
        'a fourth part': `${good}.${signature}`,
        'another typ': await signed({}, { typ: 'JWT' }),
        'no kid': await signed({}, { kid: undefined }),
        'a header with more in it': await signed({}, { cty: 'JWT' }),
        'a key in the header': await signed({}, { jwk: ed.jwk }),
        'another issuer': await signed({ iss: 'https://other.example' }),
        'no issuer': await signed({ iss: undefined }),
        'another audience': await signed({ aud: 'other.example' }),
        'no audience': await signed({ aud: undefined }),
        'no expiry': await signed({ exp: undefined }),
        'an expiry that is no number': await signed({ exp: '4102444800' }),
        'no jti': await signed({ jti: undefined }),
        'a jti without generation': await signed({ jti: id }),
        'a jti in upper case': await signed({ jti: `${id.toUpperCase()}.1` }),
        'a jti with a leading zero': await signed({ jti: `${id}.01` }),
        'no role': await signed({ role: undefined }),
        'a role that is no text': await signed({ role: ['contributor'] }),
        'a scope that is no text': await signed({ scope: ['chat:*'] }),
        'an empty scope': await signed({ scope: '' }),
        'not ours': `${b64('{"alg":"EdDSA"}')}.${claims}.${signature}`,
        'something else': 'sk-1234567890',
        'nearly opaque': `ak_live_${'0'.repeat(27)}_${'0'.repeat(48)}`,
        'far too long': `${good}${'A'.repeat(8192)}`,
    };
    const first = await service.get('/read', wrong['something else']);
    assert.deepEqual(
        [first.status, first.headers.get('content-type'), first.headers.get('www-authenticate'), first.body.code, first.body.status],
        [401, 'application/problem+json', 'Bearer realm="apikey", error="invalid_token", error_description="The API key is not valid."', 'INVALID_KEY', 401]);
    for (const [name, token] of Object.entries(wrong)) {
        assert.notEqual(token, good, name);
        assert.equal(seen(await service.get('/read', token)), seen(first), name);
    }
    askedNobody(service);

    const expired = await service.get('/read', await makeToken(ed, { exp: Math.floor(Date.now() / 1000) }));
    assert.deepEqual([expired.status, expired.body.code], [401, 'EXPIRED']);
    const forgedAndExpired = await makeToken({ ...(await makeSigningKey()), kid: ed.kid }, { exp: 1 });
    assert.equal((await service.get('/read', forgedAndExpired)).body.code, 'INVALID_KEY', 'what is not proven is not said to be expired');
    askedNobody(service);

    const missing = await service.get('/read');
    assert.deepEqual([missing.status, missing.body.code, missing.headers.get('www-authenticate')], [401, 'MISSING', 'Bearer realm="apikey"']);
    for (const authorization of ['Basic dTpw', 'Bearer', 'Bearer a b', `Bearer ${good},${good}`]) {
        assert.equal((await service.get('/read', undefined, { headers: { authorization } })).status, 401, authorization);
    }
    assert.equal((await service.get('/read', undefined, { headers: { authorization: `bearer ${good}` } })).status, 200);
    askedNobody(service);
});

test('what cannot be checked here is asked of PostgreSQL, which decides', async () => {
    const service = await start();
    const opaque = `ak_live_${'0'.repeat(27)}_${'0'.repeat(49)}`;
    const cases = {
        opaque,
        'unknown kid': await makeToken(await makeSigningKey()),
        'HS256 under a kid that is not published': `${b64('{"typ":"apikey+jwt","alg":"HS256","kid":"secret"}')}.${(await makeToken(ed)).split('.')[1]}.${b64('signature')}`,
        'a claim of a later version': await makeToken(ed, { cidrs: '10.0.0.0/8' }),
        'a role that the mirror does not have': await makeToken(ed, { role: 'unheard_of' }),
        'no environment': [await makeToken(ed, { env: undefined }), { AK_ENVIRONMENTS: 'live' }],
        'an expression': [await makeToken(ed), {}, '/expression'],
        'a strict route': [await makeToken(ed), {}, '/strict'],
    };
    for (const [name, given] of Object.entries(cases)) {
        const [token, environment = {}, path = '/read'] = [given].flat();
        const asking = Object.keys(environment).length === 0 ? service : await start({ environment });
        asking.postgres.answer = postgresSays('VALID', 200, { refreshDue: true, rate: { limit: 600, windowMs: null, remaining: 598, resetMs: 41_500 } });
        const valid = await asking.get(path, token);
        assert.deepEqual([valid.status, valid.body.owner], [200, 'postgres'], name);
        assert.equal(valid.headers.get('ratelimit'), '"default";r=598;t=42');
        assert.equal(valid.headers.get('ratelimit-policy'), '"default";q=600');
        assert.equal(valid.headers.get('apikey-refresh-due'), '?1');
        const { token: passedOn, client, cost } = asking.postgres.asked.at(-1);
        assert.deepEqual([passedOn, client, cost], [token, '127.0.0.1', 1], name);

        asking.postgres.answer = postgresSays('REVOKED', 401);
        assert.equal((await asking.get(path, token)).status, 401, name);

        asking.postgres.answer = new Error('connection refused');
        const unavailable = await asking.get(path, token);
        assert.deepEqual([unavailable.status, unavailable.body.code, unavailable.headers.get('retry-after')], [503, 'UNAVAILABLE', '2'], name);
    }
    assert.deepEqual(service.postgres.asked.at(-4).permission, 'chat:read & dataset:read');

    const notGenuine = await service.get('/read', `${(await makeToken(ed)).slice(0, -4)}AAAA`);
    for (const code of ['NOT_FOUND', 'SIGNATURE_INVALID', 'MALFORMED']) {
        service.postgres.answer = postgresSays(code, 401);
        assert.equal(seen(await service.get('/read', opaque)), seen(notGenuine), `${code} looks like what is refused here`);
    }
    const others = { DISABLED: 403, FORBIDDEN: 403, SUPERSEDED: 401, UNAVAILABLE: 503, SOMETHING_NEW: 403 };
    for (const [code, status] of Object.entries(others)) {
        service.postgres.answer = postgresSays(code, status);
        assert.equal((await service.get('/read', opaque)).status, code === 'SOMETHING_NEW' ? 503 : status, code);
    }
});

test('issuers, audiences and environments are those of this node, whoever decides the rest', async () => {
    const elsewhere = await makeSigningKey();
    // Settings, claims, and what the answer is.
    const cases = {
        'for this node': [{}, {}, 200],
        'one of several audiences': [{ AK_AUDIENCE: `other.example,${audience}` }, {}, 200],
        'a list of audiences': [{}, { aud: ['other.example', audience] }, 200],
        'an issuer of before': [{ AK_ISSUER: `${issuer},https://old.example` }, { iss: 'https://old.example' }, 200],
        'no audience on either side': [{ AK_AUDIENCE: '' }, { aud: undefined }, 200],
        'another audience': [{}, { aud: 'other.example' }, 401],
        'other audiences': [{}, { aud: ['other.example'] }, 401],
        'a part of the audience': [{}, { aud: audience.slice(1) }, 401],
        'an audience that is no text': [{}, { aud: 7 }, 401],
        'no audience': [{}, { aud: undefined }, 401],
        'an audience, and this node has no name': [{ AK_AUDIENCE: '' }, {}, 401],
        'an empty audience, and this node has no name': [{ AK_AUDIENCE: '' }, { aud: null }, 401],
        'another issuer': [{}, { iss: 'https://other.example' }, 401],
        'no issuer': [{}, { iss: undefined }, 401],
        'an environment of this node': [{ AK_ENVIRONMENTS: 'live,test' }, { env: 'test' }, 200],
        'another environment': [{ AK_ENVIRONMENTS: 'live' }, { env: 'test' }, 403],
    };
    for (const [name, [environment, claims, expected]] of Object.entries(cases)) {
        const service = await start({ environment });
        const verdict = { environment: claims.env ?? 'live' };
        service.postgres.answer = postgresSays('VALID', 200, verdict);
        const token = await makeToken(ed, claims);
        const here = await service.get('/read', token);
        assert.equal(here.status, expected, name);
        askedNobody(service);

        const looksAlike = (answer, what) => (expected === 200
            ? assert.deepEqual([answer.status, answer.body.owner], [200, 'postgres'], `${name}: ${what}`)
            : assert.equal(seen(answer), seen(here), `${name}: ${what}`));
        looksAlike(await service.get('/strict', token), 'a strict route');
        looksAlike(await service.get('/read', await makeToken(elsewhere, claims)), 'a kid that is not known');
        await mirror.ready({ ready: '0' });
        looksAlike(await service.get('/read', token), 'a mirror that is not ready');
        const refresh = () => service.get('/token/refresh', token, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
        service.postgres.refreshed = { token: 'next' };
        assert.equal((await refresh()).status, expected, `${name}: refreshed`);
        service.postgres.answer = postgresSays('RATE_LIMITED', 429, verdict);
        assert.equal((await refresh()).status, expected, `${name}: refreshed, with no requests left`);
        if (expected === 401) {
            askedNobody(service);
        }
        await service.stop();
    }
});

test('the environment of a verdict is looked at where the extension would: before permission and limit, after all else', async () => {
    const service = await start({ environment: { AK_ENVIRONMENTS: 'live' } });
    const opaque = `ak_test_${'0'.repeat(27)}_${'0'.repeat(49)}`;
    const answerTo = async (code, status, more) => {
        service.postgres.answer = postgresSays(code, status, more);
        const { status: answered, body } = await service.get('/read', opaque);
        return [answered, body.code ?? body.owner];
    };
    const inTest = { environment: 'test' };
    assert.deepEqual(await answerTo('VALID', 200, {}), [200, 'postgres']);
    for (const [code, status] of [['VALID', 200], ['INSUFFICIENT_PERMISSIONS', 403], ['RATE_LIMITED', 429]]) {
        assert.deepEqual(await answerTo(code, status, inTest), [403, 'FORBIDDEN'], code);
    }
    for (const [code, status] of [['REVOKED', 401], ['EXPIRED', 401], ['SUPERSEDED', 401], ['DISABLED', 403], ['UNAVAILABLE', 503]]) {
        assert.deepEqual(await answerTo(code, status, inTest), [status, code]);
    }
    assert.deepEqual(await answerTo('VALID', 200, { environment: null, keyId: null }), [403, 'FORBIDDEN'], 'nobody\'s key is of no environment');
    assert.deepEqual(await answerTo('INSUFFICIENT_PERMISSIONS', 403, {}), [403, 'INSUFFICIENT_PERMISSIONS']);
});

test('a handler gets the whole body of a request, however long the decision takes', async () => {
    const handle = async ({ request }) => {
        let bytes = 0;
        for await (const chunk of request) {
            bytes += chunk.length;
        }
        return { bytes };
    };
    const service = await start({ routes: { 'POST /here': { handle }, 'POST /strict': { strict: true, handle } } });
    service.postgres.validate = async () => {
        await new Promise((resolve) => setTimeout(resolve, 50));
        return postgresSays('VALID', 200);
    };
    const authorization = `Bearer ${await makeToken(ed)}`;
    for (const path of ['/here', '/strict']) {
        for (const length of [0, 5, 1_000_000]) {
            const { status, body } = await service.get(path, undefined, {
                method: 'POST', body: 'x'.repeat(length), headers: { authorization }, signal: AbortSignal.timeout(patienceMs),
            });
            assert.deepEqual([status, body.bytes], [200, length], path);
        }
    }
});

test('a body that nobody reads is not in the way of the next request on its connection', async () => {
    const readsNothing = () => ({});
    const readsSome = async ({ request }) => {
        request.resume();
        await once(request, 'data');
        request.pause();
        return {};
    };
    const throws = () => {
        throw new Error('a mistake');
    };
    const service = await start({
        routes: { 'POST /nothing': { handle: readsNothing }, 'POST /some': { handle: readsSome }, 'POST /throws': { handle: throws } },
    });
    const authorization = `Bearer ${await makeToken(ed)}`;
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const ports = new Set();
    const post = (path, headers) => new Promise((resolve, reject) => {
        const request = http.request(service.origin + path, { agent, method: 'POST', headers, timeout: 10_000 }, (response) => {
            ports.add(request.socket.localPort);
            response.resume().on('end', () => resolve(response.statusCode));
        });
        request.on('error', reject).on('timeout', () => request.destroy(new Error('in vain: an answer')));
        request.end('x'.repeat(3_000_000));
    });
    try {
        const expected = { '/nothing': 200, '/some': 200, '/throws': 500, '/unheard-of': 404, '/token/refresh': 503 };
        for (const [path, status] of Object.entries(expected)) {
            assert.equal(await post(path, { authorization }), status, path);
            assert.equal(await post(path, {}), path === '/unheard-of' ? 404 : 401, `${path} without a key`);
        }
        assert.equal(ports.size, 1, 'all on one connection');
    } finally {
        agent.destroy();
    }
});

test('a handler that goes wrong is 500, and nobody is asked to repeat what it may have done', async () => {
    const thrown = { '/error': new Error('sk-123'), '/null': null, '/text': 'sk-123', '/odd': { stack: 7 } };
    const routes = Object.fromEntries(Object.entries(thrown).map(([path, what]) => [`GET ${path}`, {
        handle: async () => {
            throw what;
        },
    }]));
    const service = await start({ routes: { ...routes, 'GET /undefined': { handle: () => {} }, 'GET /bigint': { handle: () => 1n } } });
    for (const path of [...Object.keys(thrown), '/undefined', '/bigint']) {
        const { status, headers, body } = await service.get(path, await makeToken(ed));
        assert.deepEqual([status, body], [500, { type: 'about:blank', title: 'Internal Server Error', status: 500 }], path);
        assert.deepEqual(['content-type', 'retry-after', 'cache-control'].map((name) => headers.get(name)), ['application/problem+json', null, 'no-store'], path);
    }
    assert.equal(service.log.filter(({ event }) => event === 'failure').length, 6);
    askedNobody(service);
});

test('a key that is published later is found', async () => {
    const service = await start();
    assert.equal((await service.get('/read', await makeToken(ed))).status, 200);
    const next = await makeSigningKey();
    await mirror.jwks(next.jwk, ed.jwk, ec.jwk);
    const token = await makeToken(next);
    await until(async () => (await service.get('/read', token)).status === 200, 'the key is found');
    assert.equal(service.log.at(-1).by, 'node');
});

test('a withdrawn key or generation is refused, a changed one is asked for', async () => {
    const service = await start();
    const ids = Array.from({ length: 3 }, () => randomUUID());
    const token = (id, generation) => makeToken(ed, { jti: `${id}.${generation}` });
    await mirror.withdraw(ids[0]);
    await mirror.withdraw(ids[1], `${ids[1]}.2`);
    await mirror.withdraw(ids[2], `changed:${ids[2]}.3`);
    const code = async (id, generation) => {
        const { status, body } = await service.get('/read', await token(id, generation));
        return [status, body.code ?? body.owner];
    };
    assert.deepEqual(await code(ids[0], 1), [401, 'REVOKED']);
    assert.deepEqual(await code(ids[0], 7), [401, 'REVOKED']);
    assert.deepEqual(await code(ids[1], 2), [401, 'REVOKED']);
    assert.deepEqual(await code(ids[1], 3), [200, 'acme']);
    assert.deepEqual(await code(ids[2], 2), [200, 'acme']);
    askedNobody(service);
    service.postgres.answer = postgresSays('VALID', 200);
    assert.deepEqual(await code(ids[2], 3), [200, 'postgres']);
    assert.equal(service.log.at(-1).why, 'mirror_changed');
    // A withdrawal counts though the role cannot be read, and PostgreSQL cannot be asked.
    service.postgres.answer = new Error('down');
    const other = await makeToken(ed, { jti: `${ids[0]}.1`, role: 'unheard_of' });
    assert.equal((await service.get('/read', other)).body.code, 'REVOKED');
});

test('a mirror that does not know is never taken for one that says no', async () => {
    const service = await start();
    const revoked = randomUUID();
    await mirror.withdraw(revoked);
    const token = await makeToken(ed);
    const states = {
        mirror_not_ready: () => mirror.ready({ ready: '0' }),
        mirror_schema: () => mirror.ready({ schema: '2' }),
        mirror_stale: () => mirror.ready({ watermark_ms: String(Date.now() - 601_000) }),
        mirror_server: () => mirror.ready({ run_id: '0'.repeat(40) }),
        mirror_count: () => mirror.ready({ count: '1000' }),
        role_missing: () => redis.admin.del('{ak:test-1:roles}'),
        role_format: () => mirror.role('contributor', '{"permissions":["*"]'),
        mirror_no_meta: () => redis.admin.flushall(),
    };
    for (const [why, make] of Object.entries(states)) {
        await mirror.ready();
        await make();
        service.postgres.answer = postgresSays('VALID', 200);
        assert.equal((await service.get('/read', token)).body.owner, 'postgres', why);
        assert.equal(service.log.at(-1).why, why);
        service.postgres.answer = new Error('down');
        const { status, headers } = await service.get('/read', token);
        assert.deepEqual([status, headers.get('retry-after')], [503, '2'], why);
        // What is there counts, in whatever state the rest is.
        const { body } = await service.get('/read', await makeToken(ed, { jti: `${revoked}.1` }));
        assert.equal(body.code, why === 'mirror_no_meta' ? 'UNAVAILABLE' : 'REVOKED', why);
    }
    await mirror.jwks(ed.jwk, ec.jwk);
    await mirror.role('contributor', unlimited);
    await mirror.role('limited', { permissions: ['dataset:*'], rate: { limit: 2, window_ms: 86_400_000 } });
    await mirror.ready();
    assert.equal((await service.get('/read', token)).body.owner, 'acme', 'as soon as it is ready again');
});

test('permissions are what role and scope have in common, and the answer names what is missing', async () => {
    const service = await start();
    const get = async (path, claims) => service.get(path, await makeToken(ed, claims));
    assert.equal((await get('/read', {})).status, 200);
    assert.equal((await get('/read', { scope: 'chat:read dataset:*' })).status, 200);
    assert.equal((await get('/deep', {})).status, 200);
    assert.equal((await get('/open', { scope: 'chat:read' })).status, 200);
    const denied = await get('/read', { scope: 'chat:read dataset:write' });
    assert.equal(denied.status, 403);
    assert.deepEqual([denied.body.code, denied.body.missing], ['INSUFFICIENT_PERMISSIONS', ['dataset:read']]);
    assert.equal(denied.headers.get('www-authenticate'), 'Bearer realm="apikey", error="insufficient_scope", scope="dataset:read"');
    assert.equal((await get('/deep', { role: 'limited', scope: '*' })).status, 403, 'a scope adds nothing to the role');
    askedNobody(service);

    const production = await start({ environment: { AK_ENVIRONMENTS: 'live,staging' } });
    assert.equal((await production.get('/read', await makeToken(ed, { env: 'staging' }))).status, 200);
    const test_ = await production.get('/read', await makeToken(ed, { env: 'test' }));
    assert.deepEqual([test_.status, test_.body.code, test_.headers.get('www-authenticate')], [403, 'FORBIDDEN', null]);
    askedNobody(production);
});

test('a limit that is reached is 429, says until when, and a denial before it costs nothing', async () => {
    const service = await start();
    const claims = { jti: `${randomUUID()}.1`, role: 'limited' };
    const token = await makeToken(ed, claims);
    assert.equal((await service.get('/deep', token)).status, 403);
    const answers = [];
    for (let i = 0; i < 3; i += 1) {
        answers.push(await service.get('/read', token));
    }
    assert.deepEqual(answers.map(({ status }) => status), [200, 200, 429]);
    assert.deepEqual(answers.map(({ headers }) => /r=(\d+)/.exec(headers.get('ratelimit'))[1]), ['1', '0', '0']);
    const { headers, body } = answers[2];
    assert.equal(headers.get('ratelimit-policy'), '"default";q=2;w=86400');
    assert.ok(Number(headers.get('retry-after')) > 0);
    assert.deepEqual(
        [body.type, body.code, body['violated-policies'], headers.get('content-type')],
        ['https://iana.org/assignments/http-problem-types#quota-exceeded', 'RATE_LIMITED', ['default'], 'application/problem+json']);
    const never = await service.get('/five', token);
    assert.deepEqual([never.status, never.headers.get('retry-after')], [429, null], 'no wait helps a cost above the limit');
    askedNobody(service);
});

test('a refresh is said to be due, and done by PostgreSQL after it has looked at the token', async () => {
    const service = await start();
    const token = await makeToken(ed, { exp: Math.floor(Date.now() / 1000) + 3600 });
    assert.equal((await service.get('/read', token)).headers.get('apikey-refresh-due'), '?1');
    askedNobody(service);

    const refresh = () => service.get('/token/refresh', token, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
    service.postgres.answer = postgresSays('FORBIDDEN', 403);
    service.postgres.refreshed = { token: 'next', expires_at: '2027-01-01T00:00:00Z', refresh_after: '2026-12-31T00:00:00Z', owner: 'acme' };
    assert.equal((await refresh()).status, 403);
    assert.deepEqual(service.postgres.asked.at(-1), { token, permission: null, client: '127.0.0.1', cost: 0 });
    service.postgres.answer = postgresSays('VALID', 200);
    const { status, body, headers } = await refresh();
    assert.deepEqual([status, body], [200, { token: 'next', expiresAt: '2027-01-01T00:00:00Z', refreshAfter: '2026-12-31T00:00:00Z' }]);
    assert.equal(headers.get('cache-control'), 'no-store');
    service.postgres.refreshed = { denied: 'REFRESH_TOO_EARLY', status: 409, detail: { refresh_after: '2026-12-31T00:00:00Z' } };
    const early = await refresh();
    assert.deepEqual([early.status, early.body.code, early.body.refreshAfter], [409, 'REFRESH_TOO_EARLY', '2026-12-31T00:00:00Z']);
    service.postgres.refreshed = new Error('down');
    assert.equal((await refresh()).status, 503);
    assert.equal((await service.get('/token/refresh', undefined, { method: 'POST' })).status, 401);
});

test('a mistake in this program lets nobody through, and no log line has a token', async () => {
    const service = await start();
    const token = await makeToken(ed, { role: 'limited' });
    service.mirror.isGood = () => JSON.parse(token);
    assert.equal((await service.get('/read', token)).status, 503);
    service.mirror.isGood = async () => true;
    service.mirror.rate = async () => {
        throw new TypeError(token);
    };
    assert.equal((await service.get('/read', token)).status, 503);
    assert.equal((await service.get(`/read?token=${token}`, token)).status, 503);
    assert.equal((await service.get(`/${token}`, token)).status, 404);
    assert.ok(service.log.some(({ event }) => event === 'failure'));

    const lines = services.flatMap(({ log }) => log).map((line) => JSON.stringify(line));
    assert.ok(lines.length > 50);
    for (const line of lines) {
        assert.doesNotMatch(line, /eyJ|ak_live|sk-123/);
    }
    assert.ok(lines.every((line) => !line.includes(audience)));
});

test('the program starts, answers what is under way when it is told to stop, and ends', async () => {
    await mirror.ready();
    // Something that takes connections and never says a word.
    const silent = net.createServer(() => {});
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const program = spawn(process.execPath, [new URL('../service.mjs', import.meta.url).pathname], {
        env: {
            PATH: process.env.PATH, PGHOST: '127.0.0.1', PGPORT: String(silent.address().port), AK_LISTEN: '127.0.0.1:0', AK_REDIS_URL: `unix://${redis.socket}`, AK_NAMESPACE: 'test-1',
            AK_ISSUER: issuer, AK_AUDIENCE: audience, AK_PG_TIMEOUT_MS: '1000',
        },
        stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
        const lines = [];
        let hear;
        const heard = new Promise((resolve) => (hear = resolve));
        createInterface({ input: program.stdout }).on('line', (line) => {
            lines.push(JSON.parse(line));
            hear(lines[0]);
        });
        const { port } = await heard;
        const get = async (path, token, method = 'GET') => {
            const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers: { authorization: `Bearer ${token}` } });
            return [response.status, await response.json(), response.headers];
        };
        const token = await makeToken(ed);
        await until(async () => (await get('/v1/whoami', token))[0] === 200, 'it answers');
        assert.deepEqual((await get('/v1/whoami', token))[1].owner, 'acme');

        // PostgreSQL is to decide, so that the answer takes as long as it may.
        const underWay = get('/v1/node/restart', token, 'POST');
        await once(silent, 'connection');
        program.kill('SIGTERM');
        const [status, , headers] = await underWay;
        assert.deepEqual([status, headers.get('connection')], [503, 'close'], 'and does not wait for connections that are kept alive');
        assert.deepEqual(await once(program, 'exit'), [0, null]);
        assert.deepEqual(lines.at(-1).event, 'stopped');
        assert.doesNotMatch(JSON.stringify(lines), /eyJ/);
    } finally {
        program.kill('SIGKILL');
        silent.close();
    }
});

test('healthz says what is behind it', async () => {
    const service = await start();
    assert.deepEqual((await service.get('/healthz')).body, { ok: true, redis: true, mirror: 'ok', postgres: false });
    service.mirror.close();
    const { status, body } = await service.get('/healthz');
    assert.deepEqual([status, body], [503, { ok: false, redis: false, mirror: 'redis_unreachable', postgres: false }]);
});

test('healthz and the log say that there is no mirror of that namespace', async () => {
    const service = await start({ namespace: 'misspelt' });
    for (const answer of [new Error('there is no PostgreSQL'), postgresSays('VALID', 200)]) {
        service.postgres.answer = answer;
        const ok = !(answer instanceof Error);
        const { status, body } = await service.get('/healthz');
        assert.deepEqual([status, body], [ok ? 200 : 503, { ok, redis: true, mirror: 'no_meta', postgres: ok }]);
    }
    assert.deepEqual(service.log.filter(({ event }) => event === 'mirror'), [{ event: 'mirror', state: 'no_meta', namespace: 'misspelt' }], 'once');
});
