// The service with a real server and a real mirror. It needs only these, and is skipped without them:
//
//   AK_TEST_PG_HOST     directory of PostgreSQL's socket (or a host); AK_TEST_PG_PORT, AK_TEST_PG_DATABASE, AK_TEST_PG_USER
//   AK_REDIS_URL        the Redis that the server's mirror fills
//   AK_NAMESPACE        the mirror's namespace
//
// The user must be a superuser, or of kind admin and issuer in one. Keys are issued and revoked; roles are made and stay.
// AK_TEST_REDIS_PID: of a Redis that may be killed; it is not started again.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import pg from 'pg';

import { Postgres } from '../lib/postgres.mjs';
import { startService, stopServices, until } from './support.mjs';

const where = {
    host: process.env.AK_TEST_PG_HOST,
    port: Number(process.env.AK_TEST_PG_PORT ?? 5432),
    database: process.env.AK_TEST_PG_DATABASE ?? 'postgres',
    user: process.env.AK_TEST_PG_USER ?? 'postgres',
};
const isPrepared = where.host && process.env.AK_REDIS_URL && process.env.AK_NAMESPACE;
const options = { skip: isPrepared ? false : 'AK_TEST_PG_HOST, AK_REDIS_URL and AK_NAMESPACE are not set' };

let admin;
let service;
let asked = [];

/** PostgreSQL as the service asks it, and how often. */
class Counted extends Postgres {
    async validate(request) {
        asked.push(request);
        return super.validate(request);
    }
}

const one = async (sql, values = []) => (await admin.query(sql, values)).rows[0];
const issue = (more = '') => one(`SELECT key_id, token FROM apikey.issue('acme', 'contributor'${more})`);

/** [status, code or owner, who decided] */
async function get(path, token) {
    const before_ = asked.length;
    const { status, body } = await service.get(path, token);
    return [status, body.code ?? body.owner, asked.length === before_ ? 'node' : 'postgres'];
}

/** Once the mirror is ready and knows the signing key, this node decides by itself. */
const decidesItself = (token) => until(async () => (await get('/read', token))[2] === 'node', 'the node decides by itself');

before(async () => {
    if (!isPrepared) {
        return;
    }
    admin = new pg.Client(where);
    await admin.connect();
    const { issuer, audience } = await one("SELECT current_setting('apikey.issuer') AS issuer, current_setting('apikey.audience') AS audience");
    service = await startService({
        namespace: process.env.AK_NAMESPACE,
        environment: { AK_REDIS_URL: process.env.AK_REDIS_URL, AK_ISSUER: issuer, AK_AUDIENCE: audience },
        postgres: new Counted({ connections: 4, waiting: 64, timeoutMs: 2000, ...where }),
    });
    asked = [];
});

after(async () => {
    await stopServices();
    await admin?.end();
});

test('a key that was issued is decided by the node, with the permissions of its role and its own', options, async () => {
    const { token } = await issue();
    await decidesItself(token);
    assert.deepEqual(await get('/read', token), [200, 'acme', 'node']);
    assert.deepEqual(await get('/deep', token), [403, 'INSUFFICIENT_PERMISSIONS', 'node']);
    const narrow = await issue(", permissions => '{chat:read}'");
    assert.deepEqual(await get('/read', narrow.token), [403, 'INSUFFICIENT_PERMISSIONS', 'node']);
    assert.deepEqual(await get('/expression', token), [200, 'acme', 'postgres']);
    const opaque = await issue(", format => 'opaque'");
    assert.deepEqual(await get('/read', opaque.token), [200, 'acme', 'postgres']);
    assert.deepEqual(await get('/read', opaque.token.slice(0, -1) + (opaque.token.at(-1) === '0' ? '1' : '0')), [401, 'INVALID_KEY', 'postgres']);
});

test('a revocation is true at the node once wait_mirrored() says so', options, async () => {
    const { key_id: id, token } = await issue();
    await decidesItself(token);
    const { receipt } = await one('SELECT receipt FROM apikey.revoke($1)', [id]);
    assert.equal((await one('SELECT apikey.wait_mirrored($1) AS done', [receipt])).done, true);
    assert.deepEqual(await get('/read', token), [401, 'REVOKED', 'node']);
});

test('a changed key is asked for, a disabled one refused, and an enabled one let through again', options, async () => {
    const { key_id: id, token } = await issue();
    await decidesItself(token);
    await admin.query("UPDATE apikey.key SET role = 'basic' WHERE key_id = $1", [id]);
    await until(async () => (await get('/read', token))[2] === 'postgres', 'the change arrives');
    assert.deepEqual(await get('/read', token), [403, 'INSUFFICIENT_PERMISSIONS', 'postgres']);

    const other = await issue();
    await admin.query('SELECT apikey.disable($1)', [other.key_id]);
    await until(async () => (await get('/read', other.token))[0] !== 200, 'it is disabled');
    await admin.query('SELECT apikey.enable($1)', [other.key_id]);
    await until(async () => (await get('/read', other.token))[0] === 200, 'it is enabled');
});

test('a token of another audience or environment is refused, whether the node decides or PostgreSQL', options, async () => {
    const { issuer } = await one("SELECT current_setting('apikey.issuer') AS issuer");
    const [live, inTest] = [await issue(), await issue(", environment => 'test'")];
    await decidesItself(inTest.token);
    const other = async (environment) => startService({
        namespace: process.env.AK_NAMESPACE,
        environment: { AK_REDIS_URL: process.env.AK_REDIS_URL, AK_ISSUER: issuer, ...environment },
        postgres: new Postgres({ connections: 2, waiting: 64, timeoutMs: 2000, ...where }),
    });
    const decided = async (at, path, token) => {
        const { status, body } = await at.get(path, token);
        return [status, body.code, at.log.at(-1).by];
    };
    const elsewhere = await other({ AK_AUDIENCE: 'other.example' });
    assert.deepEqual(await decided(elsewhere, '/read', live.token), [401, 'INVALID_KEY', 'node']);
    assert.deepEqual(await decided(elsewhere, '/strict', live.token), [401, 'INVALID_KEY', 'node']);
    const { audience } = await one("SELECT current_setting('apikey.audience') AS audience");
    const liveOnly = await other({ AK_AUDIENCE: audience, AK_ENVIRONMENTS: 'live' });
    await until(async () => (await decided(liveOnly, '/read', inTest.token))[2] === 'node', 'that node decides by itself');
    assert.deepEqual(await decided(liveOnly, '/read', inTest.token), [403, 'FORBIDDEN', 'node']);
    assert.deepEqual(await decided(liveOnly, '/strict', inTest.token), [403, 'FORBIDDEN', 'postgres']);
});

test('a signing key that is rotated is found, and a refreshed token is good', options, async () => {
    const { token } = await issue(", ttl => '12 hours'");
    await decidesItself(token);
    await admin.query('SELECT apikey.rotate_signing_key()');
    const answer = await service.get('/token/refresh', token, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
    assert.equal(answer.status, 200);
    await decidesItself(answer.body.token);
    assert.deepEqual(await get('/read', answer.body.token), [200, 'acme', 'node']);
});

test('a limit holds at the node', options, async () => {
    await admin.query(`INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window)
        VALUES ('node_test', '1 day', '{dataset:*}', 20, '1 day', '1 hour') ON CONFLICT DO NOTHING`);
    const { token } = await one("SELECT token FROM apikey.issue('acme', 'node_test')");
    // The first of these may be PostgreSQL's, until the mirror has the role.
    await until(async () => (await get('/five', token))[2] === 'node', 'the mirror has the role');
    const answers = await Promise.all(Array.from({ length: 60 }, () => service.get('/read', token)));
    assert.ok(answers.filter(({ status }) => status === 200).length <= 15);
    assert.ok(answers.some(({ status }) => status === 429));
});

test('a Redis that is gone is no reason to let anybody through, nor to refuse whom PostgreSQL knows', {
    skip: options.skip || (process.env.AK_TEST_REDIS_PID ? false : 'AK_TEST_REDIS_PID is not set'),
}, async () => {
    const [kept, revoked] = [await issue(), await issue()];
    await decidesItself(kept.token);
    process.kill(Number(process.env.AK_TEST_REDIS_PID), 'SIGKILL');
    await admin.query('SELECT apikey.revoke($1)', [revoked.key_id]);
    assert.deepEqual(await get('/read', revoked.token), [401, 'REVOKED', 'postgres']);
    assert.deepEqual(await get('/read', kept.token), [200, 'acme', 'postgres']);
});
