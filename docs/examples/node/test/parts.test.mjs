// The parts that need neither Redis nor HTTP.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { clientAddress, readAddress } from '../lib/app.mjs';
import { readConfig } from '../lib/config.mjs';
import { Jwks, readKeySet } from '../lib/jwks.mjs';
import { reason } from '../lib/log.mjs';
import { bucketOf, readRole } from '../lib/mirror.mjs';
import { grants, isAllowed } from '../lib/permission.mjs';
import { readVerdict } from '../lib/postgres.mjs';
import { scripts } from '../lib/scripts.mjs';
import { readJti } from '../lib/token.mjs';
import { Undecided } from '../lib/undecided.mjs';
import { makeSigningKey } from './support.mjs';

test('a grant matches as it does in the extension', () => {
    const table = [
        ['*', 'chat', true], ['*', 'chat:read:all', true],
        ['chat:*', 'chat:read', true], ['chat:*', 'chat:read:all', true], ['chat:*', 'chat', false], ['chat:*', 'chats:read', false],
        ['chat:read', 'chat:read', true], ['chat:read', 'chat:read:all', false], ['chat:read', 'chat', false],
        ['*:read', 'chat:read', true], ['*:read', 'a:b:read', false], ['*:read', 'read', false],
        ['node:*:restart', 'node:eu:restart', true], ['node:*:restart', 'node:eu:west:restart', false],
        ['*:*', 'chat', false], ['*:*', 'chat:read', true], ['*:*', 'chat:read:all', true],
        ['chat.*', 'chat.read', false],
    ];
    for (const [grant, permission, expected] of table) {
        assert.equal(grants(grant, permission), expected, `${grant} for ${permission}`);
    }
});

test('role and scope must both allow it, and what is not understood is left to PostgreSQL', () => {
    assert.equal(isAllowed('chat:read', ['chat:*'], null), true);
    assert.equal(isAllowed('chat:read', ['chat:*'], ['chat:write']), false);
    assert.equal(isAllowed('chat:read', ['dataset:*'], ['*']), false);
    assert.equal(isAllowed('chat:read', ['dataset:*', 'chat:read'], ['chat:*']), true);
    assert.equal(isAllowed('chat:read', [], null), false);
    assert.equal(isAllowed(null, [], []), true);
    const undecided = [
        ['chat:read & chat:write', ['*'], null], ['chat:*', ['*'], null], ['', ['*'], null],
        ['chat:read', ['chat:**'], null], ['chat:read', ['Chat:read'], null], ['chat:read', 'chat:*', null], ['chat:read', undefined, null],
        ['chat:read', ['*'], ['']], ['chat:read', ['*'], ['!chat:read']], ['chat:read', Array(65).fill('*'), null],
    ];
    for (const [permission, role, scope] of undecided) {
        assert.throws(() => isAllowed(permission, role, scope), Undecided, JSON.stringify([permission, role, scope]));
    }
});

test('jti is a key id and a generation, written in one way', () => {
    const id = '01a20339-04a3-72e9-bcab-0fa338bf5391';
    assert.deepEqual(readJti(`${id}.1`), { keyId: id, generation: 1 });
    assert.deepEqual(readJti(`${id}.2147483647`), { keyId: id, generation: 2147483647 });
    const wrong = [
        id, `${id}.`, `${id}.0`, `${id}.01`, `${id}.-1`, `${id}.+1`, `${id}.1.1`, `${id}.1 `, ` ${id}.1`, `${id}.2147483648`, `${id}.1e3`,
        `${id}.1\n`, `${id.toUpperCase()}.1`, `{${id}}.1`, `${id.replaceAll('-', '')}.1`, `changed:${id}.1`, '',
    ];
    for (const jti of wrong) {
        assert.equal(readJti(jti), null, JSON.stringify(jti));
    }
});

test('buckets are where the contract says that they are', () => {
    const vectors = JSON.parse(readFileSync(new URL('../../../../test/conformance/buckets.json', import.meta.url), 'utf8'));
    assert.ok(vectors.length > 0);
    for (const { subject, bucket } of vectors) {
        assert.equal(bucketOf(subject), bucket, subject);
    }
});

test('a role is read whole or not at all', () => {
    assert.deepEqual(readRole('{"permissions":["chat:*"],"rate":{"limit":5,"window_ms":60000}}'), { grants: ['chat:*'], rate: { limit: 5, windowMs: 60000 }, refreshWindowMs: 0 });
    assert.deepEqual(readRole('{"permissions":[],"rate":null,"refresh_window_ms":86400000}'), { grants: [], rate: null, refreshWindowMs: 86_400_000 });
    const wrong = [
        '', 'null', '[]', '{}', '{"permissions":["*"]}', '{"rate":null}', '{"permissions":"*","rate":null}', '{"permissions":["*"],"rate":{}}',
        '{"permissions":["*"],"rate":{"limit":"5","window_ms":60000}}', '{"permissions":["*"],"rate":{"limit":5,"window_ms":0}}',
        '{"permissions":["*"],"rate":{"limit":-5,"window_ms":60000}}', '{"permissions":["*"],"rate":false}', '{"permissions":["* "],"rate":null}',
    ];
    for (const text of wrong) {
        assert.throws(() => readRole(text), Undecided, text);
    }
});

test('a key set holds public signing keys only, each for its own algorithm', async () => {
    const [ed, ec] = await Promise.all(['EdDSA', 'ES256'].map(makeSigningKey));
    const keys = await readKeySet(JSON.stringify({
        keys: [
            ed.jwk, ec.jwk,
            { kty: 'oct', k: 'c2VjcmV0', kid: 'symmetric', alg: 'HS256', use: 'sig' },
            { ...ed.jwk, kid: 'hmac', alg: 'HS256' }, { ...ec.jwk, kid: 'other', alg: 'EdDSA' }, { ...ed.jwk, kid: 'enc', use: 'enc' },
            { ...ed.jwk, kid: 'bad kid' }, { ...ed.jwk, kid: undefined }, null,
        ],
    }));
    assert.deepEqual([...keys.values()].map(({ kid, algorithm }) => [kid, algorithm]), [[ed.kid, 'EdDSA'], [ec.kid, 'ES256']]);
    await assert.rejects(readKeySet(JSON.stringify({ keys: [ed.jwk, { ...ec.jwk, kid: ed.kid }] })), /twice/);
    await assert.rejects(readKeySet('[]'));
});

test('the key set is asked for in time, never too often, and not trusted for ever', async () => {
    const [old, next] = await Promise.all([makeSigningKey(), makeSigningKey()]);
    const set = (...keys) => JSON.stringify({ keys: keys.map(({ jwk }) => jwk) });
    let now = 0;
    let loads = 0;
    let load = async () => set(old);
    const jwks = new Jwks({
        load: () => {
            loads += 1;
            return load();
        },
        refreshMs: 5000, maxAgeMs: 30_000, attemptMs: 1000, now: () => now,
    });
    const settle = () => new Promise(setImmediate);

    const found = await Promise.all(Array.from({ length: 50 }, () => jwks.find(old.kid)));
    assert.ok(found.every((key) => key.algorithm === 'EdDSA'));
    assert.equal(loads, 1, 'fifty at once are one attempt');

    for (let i = 0; i < 100; i += 1) {
        assert.equal(await jwks.find(`made-up-${i}`), null);
    }
    assert.equal(loads, 1, 'made-up kids are not as many attempts');

    load = async () => set(old, next);
    now = 1000;
    assert.notEqual(await jwks.find(next.kid), null, 'a kid that is not there is asked for, once the last attempt is a second ago');
    assert.equal(loads, 2);

    load = async () => set(next);
    now = 6001;
    assert.notEqual(await jwks.find(old.kid), null, 'nobody waits for the refresh of a set that is not too old');
    await settle();
    await settle();
    assert.equal(loads, 3);
    now = 7001;
    assert.equal(await jwks.find(old.kid), null, 'a retired key goes with the next refresh');

    load = async () => {
        throw new Undecided('redis_unreachable');
    };
    now = 30_000;
    assert.notEqual(await jwks.find(next.kid), null, 'the set stays while it cannot be asked for');
    now = 40_000;
    await assert.rejects(jwks.find(next.kid), Undecided, 'but not for ever');
    load = async () => null;
    now = 42_000;
    await assert.rejects(jwks.find(next.kid), Undecided, 'and an empty place is no new set');
    load = async () => set(next);
    now = 44_000;
    assert.notEqual(await jwks.find(next.kid), null, 'until there is one again');
});

test('a verdict lets through only when all of it says so', () => {
    const row = {
        valid: true, code: 'VALID', http_status: 200, key_id: 'k', owner: 'acme', role: 'basic', environment: 'live', rate_limit: '600', rate_remaining: '599',
        reset_s: 41.5, retry_s: null, refresh_due: true, detail: null,
    };
    assert.deepEqual(readVerdict(row), {
        code: 'VALID', status: 200, principal: { keyId: 'k', owner: 'acme', role: 'basic', environment: 'live' }, keyId: 'k', environment: 'live', missing: null,
        rate: { limit: 600, windowMs: null, remaining: 599, resetMs: 41_500 }, retryAfterMs: null, refreshDue: true,
    });
    for (const change of [{ valid: false }, { valid: null }, { code: 'REVOKED' }, { http_status: 204 }, { valid: 't' }]) {
        assert.equal(readVerdict({ ...row, ...change }).status, 503, JSON.stringify(change));
    }
    const denied = readVerdict({ ...row, valid: false, code: 'INSUFFICIENT_PERMISSIONS', http_status: 403, detail: { missing: ['a:b'] } });
    assert.deepEqual([denied.status, denied.missing, denied.principal, denied.environment], [403, ['a:b'], null, 'live']);
});

test('an address is read as proxies write it, and what is none is nobody', () => {
    const table = [
        ['192.0.2.1', '192.0.2.1'], [' 192.0.2.1 ', '192.0.2.1'], ['192.0.2.1:49152', '192.0.2.1'], ['"192.0.2.1:49152"', '192.0.2.1'],
        ['2001:db8::1', '2001:db8::1'], ['[2001:db8::1]', '2001:db8::1'], ['[2001:db8::1]:443', '2001:db8::1'], ['"[2001:db8::1]:443"', '2001:db8::1'],
        ['fe80::1%eth0', 'fe80::1'], ['[fe80::1%25eth0]:443', 'fe80::1'], ['[fe80::1%eth0]:443', 'fe80::1'],
        ['::ffff:192.0.2.1', '192.0.2.1'], ['::FFFF:192.0.2.1', '192.0.2.1'], ['[::ffff:192.0.2.1]:80', '192.0.2.1'], ['192.0.2.1:_obfuscated', '192.0.2.1'],
        ['unknown', null], ['_gateway', null], ['', null], ['-', null], ['localhost', null], ['192.0.2', null], ['192.0.2.256', null], ['192.0.2.1/24', null],
        ['[192.0.2.1', null], ['2001:db8::g', null], ["'); DROP TABLE apikey.key; --", null], [':80', null], ['%eth0', null], ['192.0.2.1\u0000', null],
    ];
    for (const [text, address] of table) {
        assert.equal(readAddress(text), address, JSON.stringify(text));
    }
    const request = { headers: { 'x-forwarded-for': '203.0.113.9, [2001:db8::7]:1234, unknown' }, socket: { remoteAddress: '::ffff:10.0.0.1' } };
    assert.deepEqual([0, 1, 2, 3, 4].map((hops) => clientAddress(request, hops)), ['10.0.0.1', null, '2001:db8::7', '203.0.113.9', null]);
});

test('a log line says what went wrong, and shows no token', () => {
    const refused = new AggregateError([new Error('connect ECONNREFUSED ::1:5432'), new Error('connect ECONNREFUSED 127.0.0.1:5432')]);
    refused.code = 'ECONNREFUSED';
    assert.deepEqual(reason(refused), { error: 'ECONNREFUSED', message: 'connect ECONNREFUSED ::1:5432; connect ECONNREFUSED 127.0.0.1:5432' });
    assert.deepEqual(reason(new Error('too many requests')), { error: 'Error', message: 'too many requests' });
    for (const secret of [`ak_live_${'0'.repeat(27)}_${'1'.repeat(49)}`, 'eyJ0eXAiOiJhcGlrZXkrand0.eyJpc3M.AAAA_-A']) {
        assert.deepEqual(reason(new Error(`no "${secret}" here`)), { error: 'Error', message: 'no "[token]" here' });
    }
    assert.equal(reason(new Error('x'.repeat(1000))).message.length, 300);
    for (const thrown of [null, undefined, 'text', {}, new AggregateError([])]) {
        assert.equal(typeof reason(thrown).message, 'string');
    }
});

test('the scripts of the mirror are those of the extension', () => {
    for (const [name, sha1] of Object.entries(scripts)) {
        const source = readFileSync(new URL(`../../../../src/lua/ak_${name}.lua`, import.meta.url));
        assert.equal(createHash('sha1').update(source).digest('hex'), sha1, name);
    }
});

test('a setting that is wrong is said so at the start, and a password in a URL is not taken', () => {
    const good = { AK_NAMESPACE: '7381-5' };
    assert.equal(readConfig(good).rateNamespace, '7381-5');
    assert.deepEqual(readConfig({ ...good, AK_REDIS_URL: 'unix:///run/redis.sock?db=2' }).redis, { path: '/run/redis.sock', db: 2 });
    assert.deepEqual(readConfig({ ...good, AK_REDIS_URL: 'rediss://node@[::1]:7000/1' }).redis, { host: '::1', port: 7000, db: 1, username: 'node', tls: { servername: '::1' } });
    const listens = [
        ['8081', '127.0.0.1', 8081], ['0.0.0.0:80', '0.0.0.0', 80], ['[::1]:7482', '::1', 7482], ['::1:7482', '::1', 7482], ['localhost:0', 'localhost', 0],
    ];
    for (const [text, host, port] of listens) {
        assert.deepEqual(readConfig({ ...good, AK_LISTEN: text }).listen, { host, port }, text);
    }
    const wrong = [
        { AK_LISTEN: '127.0.0.1:65536' }, { AK_LISTEN: '[::1]' },
        {}, { AK_NAMESPACE: 'a b' }, { AK_MAX_STALENESS_MS: '5s' }, { AK_MAX_STALENESS_MS: '0' }, { AK_REDIS_URL: 'redis://u:secret@h' }, { AK_REDIS_URL: 'http://h' },
        { AK_NODE: 'a:b' }, { AK_LISTEN: 'x' }, { AK_PIN_SERVER: 'yes' }, { AK_ISSUER: ',' },
    ];
    for (const change of wrong) {
        const environment = Object.keys(change).length === 0 ? {} : { ...good, ...change };
        assert.throws(() => readConfig(environment), (error) => /AK_/.test(error.message) && !error.message.includes('secret'), JSON.stringify(change));
    }
});
