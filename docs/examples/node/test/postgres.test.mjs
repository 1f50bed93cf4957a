// The service with a real server and no Redis, so that PostgreSQL decides everything. Needs AK_TEST_PG_HOST and the like, as
// end_to_end.test.mjs says; skipped without.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import pg from 'pg';

import { ApikeyClient } from '../client.mjs';
import { Postgres } from '../lib/postgres.mjs';
import { startService, stopServices, until } from './support.mjs';

const where = {
    host: process.env.AK_TEST_PG_HOST,
    port: Number(process.env.AK_TEST_PG_PORT ?? 5432),
    database: process.env.AK_TEST_PG_DATABASE ?? 'postgres',
};
const user = process.env.AK_TEST_PG_USER ?? 'postgres';
const options = { skip: where.host ? false : 'AK_TEST_PG_HOST is not set' };

let admin;

const one = async (sql, values = []) => (await admin.query(sql, values)).rows[0];

const start = async (more = {}, environment = {}) => startService({
    environment,
    socket: '/nonexistent/redis.sock',
    namespace: 'none',
    patienceMs: 0,
    // The least that a node needs: kind application.
    postgres: new Postgres({ connections: 2, waiting: 8, timeoutMs: 1500, ...where, user: 'node_test', ...more }),
});

before(async () => {
    if (options.skip) {
        return;
    }
    admin = new pg.Client({ ...where, user });
    await admin.connect();
    await admin.query("CREATE ROLE node_test LOGIN; SELECT apikey.grant_access('node_test', 'application')");
});

after(async () => {
    await stopServices();
    await admin?.end();
});

test('PostgreSQL decides, and its verdict is answered', options, async () => {
    const service = await start();
    const { key_id: id, token } = await one("SELECT * FROM apikey.issue('acme', 'contributor', permissions => '{dataset:*}')");
    const get = async (path, ...given) => {
        const { status, body, headers } = await service.get(path, given.length > 0 ? given[0] : token);
        return [status, body.code ?? body.owner, headers];
    };
    const [status, owner, headers] = await get('/read');
    assert.deepEqual([status, owner], [200, 'acme']);
    assert.equal(headers.get('ratelimit-policy'), '"default";q=3000');
    assert.match(headers.get('ratelimit'), /^"default";r=2999;t=\d+$/);
    assert.equal(headers.get('apikey-refresh-due'), null);

    const { body } = await service.get('/expression', token);
    assert.deepEqual([body.code, body.missing], ['INSUFFICIENT_PERMISSIONS', ['chat:read']]);
    for (const forged of [`ak_live_${'0'.repeat(27)}_${'0'.repeat(49)}`, `${token.slice(0, -4)}AAAA`]) {
        assert.deepEqual((await get('/read', forged)).slice(0, 2), [401, 'INVALID_KEY']);
    }
    const elsewhere = await one("SELECT token FROM apikey.issue('acme', 'contributor', allowed_cidrs => '{192.0.2.0/24}')");
    assert.deepEqual((await get('/read', elsewhere.token)).slice(0, 2), [403, 'FORBIDDEN'], 'the address is passed on');
    await admin.query('SELECT apikey.revoke($1)', [id]);
    assert.deepEqual((await get('/read')).slice(0, 2), [401, 'REVOKED']);
    assert.ok(service.log.filter(({ event }) => event === 'request').every(({ by }) => by === 'postgres'));
});

test('issuer, audience and environments are the node\'s own, and PostgreSQL\'s verdict does not replace them', options, async () => {
    const live = await one("SELECT token FROM apikey.issue('acme', 'contributor')");
    const inTest = await one("SELECT token FROM apikey.issue('acme', 'contributor', environment => 'test')");
    const moved = await one("SELECT * FROM apikey.issue('acme', 'contributor')");
    await admin.query("UPDATE apikey.key SET environment = 'test' WHERE key_id = $1", [moved.key_id]);
    const opaque = await one("SELECT token FROM apikey.issue('acme', 'contributor', format => 'opaque')");
    const opaqueInTest = await one("SELECT token FROM apikey.issue('acme', 'contributor', environment => 'test', format => 'opaque')");
    const decided = async (settings, { token }, path = '/strict') => {
        const service = await start({}, settings);
        const { status, body } = await service.get(path, token);
        await service.stop();
        return [status, body.code ?? body.owner];
    };
    const [good, foreign, forbidden] = [[200, 'acme'], [401, 'INVALID_KEY'], [403, 'FORBIDDEN']];
    for (const path of ['/strict', '/read']) {
        assert.deepEqual(await decided({}, live, path), good);
        assert.deepEqual(await decided({ AK_AUDIENCE: 'other.example' }, live, path), foreign);
        assert.deepEqual(await decided({ AK_AUDIENCE: '' }, live, path), foreign);
        assert.deepEqual(await decided({ AK_ISSUER: 'https://other.example' }, live, path), foreign);
        assert.deepEqual(await decided({ AK_AUDIENCE: 'other.example' }, opaque, path), good, 'an opaque token names nobody');
        for (const key of [inTest, moved, opaqueInTest]) {
            assert.deepEqual(await decided({}, key, path), good);
            assert.deepEqual(await decided({ AK_ENVIRONMENTS: 'live' }, key, path), forbidden);
            assert.deepEqual(await decided({ AK_ENVIRONMENTS: 'test' }, key, path), good);
        }
    }
    // Nor may it matter that the key could not do this anyway.
    assert.deepEqual(await decided({ AK_ENVIRONMENTS: 'live' }, inTest, '/deep'), forbidden);
    assert.deepEqual(await decided({ AK_ENVIRONMENTS: 'live' }, live, '/deep'), [403, 'INSUFFICIENT_PERMISSIONS']);
});

test('whatever a proxy writes for the address of a client, PostgreSQL decides', options, async () => {
    const service = await start({}, { AK_FORWARDED_HOPS: '1' });
    const { token } = await one("SELECT token FROM apikey.issue('acme', 'contributor', allowed_cidrs => '{192.0.2.0/24,2001:db8::/32}')");
    const statusFrom = async (address) => {
        const headers = { authorization: `Bearer ${token}`, ...(address !== undefined && { 'x-forwarded-for': `198.51.100.1, ${address}` }) };
        return (await service.get('/read', token, { headers })).status;
    };
    for (const address of ['192.0.2.7', '192.0.2.7:4711', '[2001:db8::7]', '[2001:db8::7]:4711', '2001:db8::7%eth0', '::ffff:192.0.2.7', '"[2001:db8::7]:1"']) {
        assert.equal(await statusFrom(address), 200, address);
    }
    for (const address of ['unknown', '_hidden', '198.51.100.7:1', '[fe80::1%eth0]:1', '192.0.2.7/24', '', undefined]) {
        assert.equal(await statusFrom(address), 403, address);
    }
});

test('a limit that PostgreSQL counts is 429 with Retry-After', options, async () => {
    const service = await start();
    const { key_id: id, token } = await one("SELECT * FROM apikey.issue('acme', 'contributor')");
    await admin.query("UPDATE apikey.key SET rate_limit = 3, rate_window = '1 day' WHERE key_id = $1", [id]);
    const answers = await Promise.all(Array.from({ length: 8 }, () => service.get('/read', token)));
    assert.equal(answers.filter(({ status }) => status === 200).length, 3);
    const { headers } = answers.find(({ status }) => status === 429);
    assert.equal(headers.get('ratelimit-policy'), '"default";q=3');
    assert.ok(Number(headers.get('retry-after')) >= 1);
});

test('the client refreshes through the service, once for many calls, and goes on with the new token', options, async () => {
    const service = await start();
    const { token } = await one("SELECT * FROM apikey.issue('acme', 'contributor', ttl => '12 hours')");
    const kept = [];
    const api = new ApikeyClient({ baseUrl: service.origin, token, onToken: (next) => kept.push(next) });
    const call = async () => (await api.fetch('/read')).status;
    assert.deepEqual(await Promise.all(Array.from({ length: 6 }, call)), Array(6).fill(200));
    assert.equal(await call(), 200);
    assert.equal(kept.length, 1);
    assert.equal((await one('SELECT generation FROM apikey.validate($1)', kept)).generation, 2);

    const early = await one("SELECT * FROM apikey.issue('acme', 'contributor', ttl => '20 days')");
    const { status, body } = await service.get('/token/refresh', early.token, { method: 'POST', headers: { authorization: `Bearer ${early.token}` } });
    assert.deepEqual([status, body.code], [409, 'REFRESH_TOO_EARLY']);
    assert.ok(Date.parse(body.refreshAfter) > Date.now());
});

test('a PostgreSQL that does not answer in time, or has too much to do, is 503 in time', options, async () => {
    const service = await start();
    const { token } = await one("SELECT * FROM apikey.issue('acme', 'contributor')");
    assert.equal((await service.get('/read', token)).status, 200);
    await admin.query('BEGIN; LOCK TABLE apikey.key IN ACCESS EXCLUSIVE MODE');
    try {
        const startedAt = performance.now();
        const answers = await Promise.all(Array.from({ length: 30 }, () => service.get('/read', token)));
        assert.ok(answers.every(({ status, headers }) => status === 503 && headers.get('retry-after') === '2'));
        assert.ok(performance.now() - startedAt < 20_000);
    } finally {
        await admin.query('ROLLBACK');
    }
    assert.equal((await service.get('/read', token)).status, 200, 'and when it does again, it is asked again');
    const nobody = await start({ port: 1 });
    assert.equal((await nobody.get('/read', token)).status, 503);
    assert.notEqual(nobody.log.find(({ event }) => event === 'postgres_unavailable').message, '');
});

test('a statement that nobody waits for any more ends by itself', options, async () => {
    const postgres = new Postgres({ connections: 1, waiting: 8, timeoutMs: 5000, ...where, user: 'node_test' });
    const { token } = await one("SELECT * FROM apikey.issue('acme', 'contributor')");
    // Not in the transaction that holds the lock, which would see the sessions as they were at first.
    const watcher = new pg.Client({ ...where, user });
    await watcher.connect();
    const isWaiting = async () => {
        const { rows } = await watcher.query("SELECT FROM pg_stat_activity WHERE usename = 'node_test' AND wait_event_type = 'Lock'");
        return rows.length > 0;
    };
    await admin.query('BEGIN; LOCK TABLE apikey.key IN ACCESS EXCLUSIVE MODE');
    try {
        const asking = assert.rejects(postgres.validate({ token, permission: null, client: null, cost: 1 }));
        await until(isWaiting, 'the statement waits for the lock');
        await asking;
        await until(async () => !(await isWaiting()), 'the server gives the statement up');
    } finally {
        await admin.query('ROLLBACK');
        await watcher.end();
    }
    assert.equal((await postgres.validate({ token, permission: null, client: null, cost: 1 })).code, 'VALID');
    await postgres.close();
});
