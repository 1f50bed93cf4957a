// Redis goes, comes back empty, is slow, or talks nonsense, in the middle of things. Nobody who should not be is let through.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { scripts } from '../lib/scripts.mjs';
import { makeSigningKey, makeToken, MirrorWriter, patienceMs, postgresSays, PrivateRedis, startService, stopServices, until } from './support.mjs';

let redis;
let mirror;
let key;

async function fill() {
    await mirror.jwks(key.jwk);
    await mirror.role('contributor', { permissions: ['*'], rate: { limit: 1e9, window_ms: 1e10 } });
    await mirror.ready();
}

before(async () => {
    redis = await new PrivateRedis().start();
    mirror = new MirrorWriter(redis, 'test-1');
    key = await makeSigningKey();
});

after(async () => {
    await stopServices();
    await redis.stop();
});

const start = (options = {}) => startService({ socket: redis.socket, namespace: 'test-1', ...options });
const environment = { AK_REDIS_TIMEOUT_MS: '400' };

/** Requests without pause until stop() is called, which returns the answers: [status, who decided]. */
function load(service, token) {
    let isOver = false;
    const answers = [];
    const workers = Array.from({ length: 8 }, async () => {
        while (!isOver) {
            const { status, body } = await service.get('/read', token);
            answers.push([status, body.owner ?? body.code]);
        }
    });
    return {
        answers,
        stop: async () => {
            isOver = true;
            await Promise.all(workers);
            return answers;
        },
    };
}

test('FLUSHALL in the middle of requests, while the key is revoked: from then on nobody is let through', async () => {
    await fill();
    const service = await start();
    const id = randomUUID();
    const token = await makeToken(key, { jti: `${id}.1` });
    const running = load(service, token);
    await until(() => running.answers.filter(([status]) => status === 200).length > 50, 'answers');

    // PostgreSQL says so, and Redis has lost everything before it was told.
    service.postgres.answer = postgresSays('REVOKED', 401);
    await redis.admin.flushall();
    const { status: afterwards } = await service.get('/read', token);
    assert.equal(afterwards, 401);
    const seen = running.answers.length;
    await until(() => running.answers.length > seen + 100, 'answers after the loss');
    assert.ok(running.answers.slice(seen + 8).every(([status]) => status === 401));

    // The mirror begins again: not ready first, then what is withdrawn, ready last.
    await mirror.ready({ ready: '0' });
    await mirror.withdraw(id);
    await fill();
    const refilled = running.answers.length;
    await until(() => running.answers.length > refilled + 100, 'answers after the resync');
    assert.ok((await running.stop()).slice(seen + 8).every(([status]) => status === 401));
    await service.stop();
});

test('Redis is killed: PostgreSQL answers, or it is 503; and when Redis is back and filled, this node decides again', async () => {
    await fill();
    const service = await start({ environment });
    const token = await makeToken(key);
    const running = load(service, token);
    await until(() => running.answers.length > 50, 'answers');
    await redis.kill();
    await until(() => running.answers.at(-1)[1] === 'UNAVAILABLE', '503');
    assert.deepEqual(await running.stop().then((answers) => answers.at(-1)), [503, 'UNAVAILABLE']);

    service.postgres.answer = postgresSays('VALID', 200);
    assert.equal((await service.get('/read', token)).body.owner, 'postgres');
    assert.equal(service.log.at(-1).why, 'redis_unreachable');

    await redis.start();
    assert.ok(await service.mirror.becomesUsable(patienceMs));
    assert.equal((await service.get('/read', token)).body.owner, 'postgres', 'an empty Redis knows nothing');
    await fill();
    await until(async () => (await service.get('/read', token)).body.owner === 'acme', 'this node decides');
    await service.stop();
});

test('a slow Redis is given up on in time, and does not hold up those who come after', async () => {
    await fill();
    const service = await start({ environment });
    const token = await makeToken(key);
    await until(async () => (await service.get('/read', token)).body.owner === 'acme', 'this node decides');
    service.postgres.answer = postgresSays('VALID', 200);
    redis.signal('SIGSTOP');
    try {
        const startedAt = performance.now();
        assert.equal((await service.get('/read', token)).body.owner, 'postgres');
        const first = performance.now() - startedAt;
        assert.ok(first >= 390, `${first} ms`);
        assert.equal(service.log.findLast(({ event }) => event === 'request').why, 'redis_timeout');

        const next = performance.now();
        for (let i = 0; i < 20; i += 1) {
            assert.equal((await service.get('/read', token)).body.owner, 'postgres');
        }
        assert.ok(performance.now() - next < 20 * 390, 'twenty more do not wait for a time-out each');

        service.postgres.answer = new Error('down');
        assert.equal((await service.get('/read', token)).status, 503);
    } finally {
        redis.signal('SIGCONT');
    }
    await until(async () => (await mirror.ready(), (await service.get('/read', token)).body.owner === 'acme'), 'Redis is used again');
    await service.stop();
});

test('a reply that makes no sense lets nobody through', async () => {
    await fill();
    const token = await makeToken(key);
    const garbage = {
        check: [
            "return 'ok'", "return {'ok'}", "return {'ok', 0}", "return {'ok', '0', ''}", "return {'ok', -1, ''}", "return {'ok', 600001, ''}",
            "return {'ok', 0, 'changed'}", "return {'OK', 0, ''}", "return {'ok', 0, '', 0}", "return {'unknown', 0, ''}", 'return {}', 'return 1', 'return nil',
            "return redis.error_reply('AKARG no')", "return {'ok', {}, ''}", "error('broken')",
        ],
        rate: [
            'return {1}', 'return {1, 0, 0, -1}', "return {'1', 0, 0, -1, tonumber(ARGV[6])}", 'return {2, 0, 0, -1, tonumber(ARGV[6])}',
            'return {1, -1, 0, -1, tonumber(ARGV[6])}', 'return {1, 0, 0, -1, 0}', 'return {-1, 0, 0, -1, tonumber(ARGV[6])}', 'return {1, 0, 0, false, 0}',
            "return 'allowed'", 'return 1', 'return nil', "return redis.error_reply('AKARG no')",
        ],
    };
    for (const [name, sources] of Object.entries(garbage)) {
        for (const source of sources) {
            const service = await start({ scripts: { ...scripts, [name]: await redis.admin.script('LOAD', source) } });
            await mirror.ready();
            const { status } = await service.get('/read', token);
            assert.equal(status, 503, `${name}: ${source}`);
            assert.equal(service.postgres.asked.length, 1);
            await service.stop();
        }
    }
});

test('the rights that the contract gives a node are enough', async () => {
    await fill();
    const contract = readFileSync(new URL('../../../redis-contract.md', import.meta.url), 'utf8');
    const environment = {};
    for (const [name, user, file] of [
        ['apikey-reader', 'AK_REDIS_USER', 'AK_REDIS_PASSWORD_FILE'], ['apikey-counter', 'AK_REDIS_RATE_USER', 'AK_REDIS_RATE_PASSWORD_FILE']]) {
        const [, rule] = new RegExp(`^ +ACL SETUSER ${name} on >PASSWORD (.*)$`, 'm').exec(contract);
        await redis.admin.acl('SETUSER', name, 'on', `>secret of ${name}`, ...rule.split(' '));
        environment[user] = name;
        environment[file] = `${redis.socket}.${name}`;
        writeFileSync(environment[file], `secret of ${name}\n`);
    }
    const service = await start({ environment });
    const token = await makeToken(key);
    await mirror.ready();
    for (let i = 0; i < 3; i += 1) {
        assert.equal((await service.get('/read', token)).body.owner, 'acme');
    }
    assert.deepEqual(await redis.admin.acl('LOG'), [], 'and nothing else is tried');
    await service.stop();
});

test('scripts that the server has forgotten: nobody is let through until the worker has loaded them again', async () => {
    await fill();
    const service = await start();
    const token = await makeToken(key);
    assert.equal((await service.get('/read', token)).status, 200);
    await redis.admin.script('FLUSH');
    await mirror.ready();
    assert.equal((await service.get('/read', token)).status, 503);
    assert.equal(service.log.at(-1).why, 'redis_script');
    await redis.loadScripts();
    assert.equal((await service.get('/read', token)).body.owner, 'acme');
    await service.stop();
});

test('what is stale is asked for as soon as it is, and not before', async () => {
    await fill();
    const service = await start({ environment: { AK_MAX_STALENESS_MS: '2000' } });
    const token = await makeToken(key);
    service.postgres.answer = postgresSays('VALID', 200);
    const startedAt = performance.now();
    await mirror.ready();
    assert.equal((await service.get('/read', token)).body.owner, 'acme');
    while ((await service.get('/read', token)).body.owner === 'acme') {
        await sleep(5);
    }
    assert.ok(performance.now() - startedAt >= 1990);
    assert.equal(service.log.at(-1).why, 'mirror_stale');
    await service.stop();
});
