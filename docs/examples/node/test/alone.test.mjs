// The example copied to a place of its own, as whoever starts from it has it: nothing else of this tree is there.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { makeSigningKey, makeToken, MirrorWriter, PrivateRedis } from './support.mjs';

const example = fileURLToPath(new URL('..', import.meta.url));
const copy = mkdtempSync(join(tmpdir(), 'apikey-alone-'));

let redis;
let token;

before(async () => {
    cpSync(example, copy, { recursive: true, filter: (path) => !['node_modules', 'test'].includes(basename(path)) });
    symlinkSync(join(example, 'node_modules'), join(copy, 'node_modules'));
    redis = await new PrivateRedis().start();
    const mirror = new MirrorWriter(redis, 'alone');
    const key = await makeSigningKey();
    await mirror.jwks(key.jwk);
    await mirror.role('contributor', { permissions: ['dataset:*'], rate: { limit: 1, window_ms: 86_400_000 } });
    await mirror.ready();
    token = await makeToken(key, { iss: 'apikey', aud: undefined });
});

after(async () => {
    await redis.stop();
    rmSync(copy, { recursive: true });
});

/** Starts the copy; {first: its first line, lines, get, stop}. */
async function start(environment) {
    const program = spawn(process.execPath, ['service.mjs'], {
        cwd: copy,
        env: {
            PATH: process.env.PATH, AK_REDIS_URL: `unix://${redis.socket}`, AK_NAMESPACE: 'alone', AK_MAX_STALENESS_MS: '600000', AK_LISTEN: '127.0.0.1:0',
            PGHOST: '127.0.0.1', PGPORT: '1', ...environment,
        },
        stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = [];
    const reader = createInterface({ input: program.stdout }).on('line', (line) => lines.push(JSON.parse(line)));
    await Promise.race([once(reader, 'line'), once(program, 'exit')]);
    const { address, port } = lines[0] ?? {};
    return {
        first: lines[0],
        lines,
        get: async (path) => {
            const host = net.isIPv6(address) ? `[${address}]` : address;
            const response = await fetch(`http://${host}:${port}${path}`, { headers: { authorization: `Bearer ${token}` } });
            return [response.status, await response.json()];
        },
        stop: async () => {
            if (program.exitCode === null) {
                program.kill('SIGTERM');
                await once(program, 'exit');
            }
        },
    };
}

/** Is there a loopback address of IPv6 here? */
async function hasIPv6() {
    const server = net.createServer().listen(0, '::1');
    try {
        await once(server, 'listening');
        return true;
    } catch {
        return false;
    } finally {
        server.close();
    }
}

test('it decides and counts with what is in its own directory', async () => {
    const service = await start();
    try {
        assert.deepEqual([service.first?.event, service.first?.mirror], ['listening', 'ok']);
        const answers = [await service.get('/v1/datasets'), await service.get('/v1/datasets')];
        assert.deepEqual(answers.map(([status]) => status), [200, 429]);
        assert.ok(service.lines.filter(({ event }) => event === 'request').every(({ by }) => by === 'node'));
    } finally {
        await service.stop();
    }
});

test('it listens on an address of IPv6, in brackets', async (t) => {
    if (!(await hasIPv6())) {
        t.skip('no IPv6');
        return;
    }
    const service = await start({ AK_LISTEN: '[::1]:0' });
    try {
        assert.deepEqual([service.first?.event, service.first?.address], ['listening', '::1']);
        assert.equal((await service.get('/healthz'))[0], 200);
    } finally {
        await service.stop();
    }
});

test('its first line says that the namespace is another one', async () => {
    const service = await start({ AK_NAMESPACE: 'elsewhere' });
    try {
        assert.deepEqual([service.first?.event, service.first?.mirror], ['listening', 'no_meta']);
        assert.deepEqual(await service.get('/healthz'), [503, { ok: false, redis: true, mirror: 'no_meta', postgres: false }]);
        const [, body] = await service.get('/v1/whoami');
        assert.equal(body.code, 'UNAVAILABLE');
        const { error, message } = service.lines.find(({ event }) => event === 'postgres_unavailable');
        assert.equal(error, 'ECONNREFUSED');
        assert.match(message, /127\.0\.0\.1:1/);
    } finally {
        await service.stop();
    }
});
