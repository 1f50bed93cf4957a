// What the tests share: a private Redis on a unix socket, its state as the mirror writes it, tokens, a PostgreSQL that says what
// it is told to, and a proxy that loses replies.

import { spawn } from 'node:child_process';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, unlinkSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Redis } from 'ioredis';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

import { readConfig } from '../lib/config.mjs';
import { createService } from '../lib/start.mjs';

/** How long a busy machine may take. */
export const patienceMs = 60_000;

export const bucketOf = (text) => createHash('sha256').update(text).digest('hex')[0];

/** Waits until it is so. */
export async function until(condition, what) {
    const deadline = Date.now() + patienceMs;
    while (!(await condition())) {
        if (Date.now() > deadline) {
            throw new Error(`in vain: ${what}`);
        }
        await sleep(5);
    }
}

/** A Redis of one's own. kill() and start() again: an empty one at the same place. */
export class PrivateRedis {
    #directory = mkdtempSync(join(tmpdir(), 'apikey-node-'));
    #process = null;
    #atExit = () => this.#process?.kill('SIGKILL');
    admin = null;

    get socket() {
        return join(this.#directory, 'redis.sock');
    }

    async start() {
        this.#process = spawn(
            'redis-server',
            ['--port', '0', '--unixsocket', this.socket, '--save', '', '--appendonly', 'no', '--dir', this.#directory, '--loglevel', 'warning'],
            { stdio: 'ignore' });
        process.on('exit', this.#atExit);
        this.admin = new Redis({ path: this.socket, retryStrategy: () => 20, maxRetriesPerRequest: null });
        this.admin.on('error', () => {});
        await this.admin.ping();
        await this.loadScripts();
        return this;
    }

    /** As the mirror worker does. */
    async loadScripts() {
        for (const name of ['ak_check', 'ak_rate', 'ak_merge']) {
            await this.admin.script('LOAD', readFileSync(new URL(`../../../../src/lua/${name}.lua`, import.meta.url), 'utf8'));
        }
    }

    signal(name) {
        this.#process.kill(name);
    }

    async kill() {
        this.admin.disconnect();
        const gone = new Promise((resolve) => this.#process.once('exit', resolve));
        this.#process.kill('SIGKILL');
        await gone;
        process.off('exit', this.#atExit);
        unlinkSync(this.socket);
    }

    async stop() {
        await this.kill();
        rmSync(this.#directory, { recursive: true });
    }
}

/** Writes the state of Redis as the mirror would: schema 1 of the contract. */
export class MirrorWriter {
    #redis;

    constructor(redis, namespace) {
        this.#redis = redis;
        this.namespace = namespace;
    }

    bucket(keyId, rest) {
        return `{ak:${this.namespace}:${bucketOf(keyId)}}:${rest}`;
    }

    /** All 16 buckets are complete as of now; fields: what is different. */
    async ready(fields = {}) {
        const admin = this.#redis.admin;
        const [, runId] = /^run_id:([0-9a-f]+)/m.exec(await admin.info('server'));
        const [seconds, micros] = await admin.time();
        const now = String(Number(seconds) * 1000 + Math.floor(Number(micros) / 1000));
        const meta = {
            schema: '1', epoch: randomUUID(), gen: '000000010000000000000001', ready: '1', watermark_ms: now, heartbeat_ms: now,
            count: '0', run_id: runId, ...fields,
        };
        await Promise.all([...'0123456789abcdef'].map((bucket) => admin.hset(`{ak:${this.namespace}:${bucket}}:meta`, meta)));
    }

    async withdraw(keyId, member = keyId) {
        await this.#redis.admin.zadd(this.bucket(keyId, 'rev'), 4_102_444_800, member);
    }

    async jwks(...keys) {
        await this.#redis.admin.set(`{ak:${this.namespace}:jwks}`, JSON.stringify({ keys }));
    }

    async role(name, role) {
        await this.#redis.admin.hset(`{ak:${this.namespace}:roles}`, name, typeof role === 'string' ? role : JSON.stringify(role));
    }

    /** What all nodes have counted for a key, over all windows. */
    async counted(keyId) {
        const admin = this.#redis.admin;
        const hashes = await Promise.all((await admin.keys(`*:rate:${keyId}:*`)).map((key) => admin.hvals(key)));
        return hashes.flat().reduce((sum, count) => sum + Number(count), 0);
    }
}

export async function makeSigningKey(algorithm = 'EdDSA') {
    const { publicKey, privateKey } = await generateKeyPair(algorithm, { extractable: true });
    const kid = randomBytes(32).toString('base64url');
    return { algorithm, kid, privateKey, publicKey, jwk: { ...(await exportJWK(publicKey)), kid, alg: algorithm, use: 'sig' } };
}

export const issuer = 'https://keys.example';
export const audience = 'api.example';

/** A token as the extension writes it; claims: what is different, undefined: left out. */
export async function makeToken(signingKey, claims = {}, header = {}) {
    const now = Math.floor(Date.now() / 1000);
    const all = {
        iss: issuer, sub: 'acme', jti: `${randomUUID()}.1`, iat: now, exp: now + 7 * 86_400, role: 'contributor', aud: audience, env: 'live',
        nonce: randomBytes(16).toString('base64url'), ...claims,
    };
    return new SignJWT(all).setProtectedHeader({ typ: 'apikey+jwt', alg: signingKey.algorithm, kid: signingKey.kid, ...header })
        .sign(signingKey.privateKey);
}

/** Stands for lib/postgres.mjs. `answers` is what validate() is to say; an Error is thrown. `asked` is what it was asked. */
export class FakePostgres {
    answer = new Error('there is no PostgreSQL');
    refreshed = new Error('there is no PostgreSQL');
    asked = [];

    async validate(request) {
        this.asked.push(request);
        if (this.answer instanceof Error) {
            throw this.answer;
        }
        return this.answer;
    }

    async refresh() {
        if (this.refreshed instanceof Error) {
            throw this.refreshed;
        }
        return this.refreshed;
    }

    async isReachable() {
        return !(this.answer instanceof Error);
    }

    async close() {}
}

export const postgresSays = (code, status, { environment = 'live', ...more } = {}) => ({
    code, status, principal: status === 200 ? { keyId: 'k', owner: 'postgres', role: 'r', environment } : null, keyId: 'k', environment,
    missing: null, rate: null, retryAfterMs: null, refreshDue: false, ...more,
});

export const routes = {
    'GET /open': { handle: ({ principal }) => principal },
    'GET /read': { permission: 'dataset:read', handle: ({ principal }) => principal },
    'GET /deep': { permission: 'node:eu:restart', handle: ({ principal }) => principal },
    'GET /expression': { permission: 'chat:read & dataset:read', handle: ({ principal }) => principal },
    'GET /five': { permission: 'dataset:read', cost: 5, handle: ({ principal }) => principal },
    'GET /strict': { strict: true, handle: ({ principal }) => principal },
};

const running = new Set();

/** Those that a test that failed has left. They would keep the process from ending. */
export const stopServices = () => Promise.all([...running].map((service) => service.stop()));

/** The service on a free port. get(path, token) → {status, headers, body}. log: all lines that it wrote. */
export async function startService({ socket, namespace, environment = {}, patienceMs: waitMs = patienceMs, ...parts }) {
    const config = readConfig({
        AK_REDIS_URL: `unix://${socket}`, AK_NAMESPACE: namespace, AK_ISSUER: issuer, AK_AUDIENCE: audience, AK_NODE: 'node-1',
        // Not what is tested, unless a test says so.
        AK_REDIS_TIMEOUT_MS: '10000', AK_MAX_STALENESS_MS: '600000', ...environment,
    });
    const log = [];
    const postgres = parts.postgres ?? new FakePostgres();
    const service = createService({ config, routes, log: (event, fields) => log.push({ event, ...fields }), ...parts, postgres });
    await new Promise((resolve) => service.server.listen(0, '127.0.0.1', resolve));
    await service.mirror.becomesUsable(waitMs);
    const origin = `http://127.0.0.1:${service.server.address().port}`;
    const started = {
        origin,
        log,
        postgres,
        mirror: service.mirror,
        get: async (path, token, options = {}) => {
            const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
            const response = await fetch(origin + path, { headers, ...options });
            return { status: response.status, headers: response.headers, body: await response.json() };
        },
        stop: async () => {
            if (!running.delete(started)) {
                return;
            }
            await new Promise((resolve) => {
                service.server.close(resolve);
                service.server.closeAllConnections();
            });
            await service.close();
        },
    };
    running.add(started);
    return started;
}

/**
 * Between a node and Redis. lose(how, times): so many replies to ak_rate are lost; the connection is then 'reset', or stays 'silent'
 * for good.
 */
export class LossyProxy {
    #server;
    #sockets = new Set();
    #how = null;
    #times = 0;
    lost = 0;
    path;

    async start(path, redisSocket) {
        this.path = path;
        this.#server = net.createServer((node) => this.#connect(node, net.connect(redisSocket)));
        await new Promise((resolve) => this.#server.listen(path, resolve));
        return this;
    }

    lose(how, times) {
        this.#how = how;
        this.#times = times;
        this.lost = 0;
    }

    async stop() {
        this.#sockets.forEach((socket) => socket.destroy());
        await new Promise((resolve) => this.#server.close(resolve));
    }

    #connect(node, redis) {
        let isLosing = false;
        for (const socket of [node, redis]) {
            this.#sockets.add(socket);
            socket.on('error', () => {});
            socket.on('close', () => {
                node.destroy();
                redis.destroy();
            });
        }
        node.on('data', (chunk) => {
            if (this.#times > 0 && chunk.includes(':rate:')) {
                this.#times -= 1;
                isLosing = true;
            }
            redis.write(chunk);
        });
        redis.on('data', (chunk) => {
            if (!isLosing) {
                node.write(chunk);
            } else if (this.#how === 'reset') {
                this.lost += 1;
                node.destroy();
            } else {
                this.lost += 1;
            }
        });
    }
}
