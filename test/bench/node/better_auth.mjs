// Better Auth's API-key plugin as its manual sets it up: keys in Postgres, in Redis as secondary storage, or in a Map as secondary storage.

import { apiKey } from '@better-auth/api-key';
import { redisStorage } from '@better-auth/redis-storage';
import { betterAuth } from 'better-auth';
import { getMigrations } from 'better-auth/db/migration';
import { Redis } from 'ioredis';
import pg from 'pg';

const keyCount = 64;

function mapStorage() {
    const map = new Map();
    return {
        get: (key) => map.get(key) ?? null,
        set: (key, value) => void map.set(key, value),
        delete: (key) => void map.delete(key),
    };
}

export async function openBetterAuth({ connections, storage, limited = true, redisSocket }) {
    const pool = new pg.Pool({ max: connections, database: 'better_auth' });
    const redis = storage === 'redis' ? new Redis(redisSocket) : null;
    const options = {
        secret: 'a secret that the benchmarks have no use for',
        baseURL: 'http://localhost',
        telemetry: { enabled: false },
        logger: { level: 'error' },
        database: pool,
        plugins: [
            apiKey({
                storage: storage === 'database' ? 'database' : 'secondary-storage',
                rateLimit: { enabled: limited, timeWindow: 60_000, maxRequests: 1_000_000_000 },
            }),
        ],
    };
    if (storage !== 'database') {
        options.secondaryStorage = redis ? redisStorage({ client: redis }) : mapStorage();
    }
    const { runMigrations } = await getMigrations(options);
    await runMigrations();
    const auth = betterAuth(options);

    const { internalAdapter } = await auth.$context;
    const user = await internalAdapter.createUser({ name: 'bench', email: `${process.pid}.${Date.now()}@example.com`, emailVerified: true });
    const keys = [];
    for (let n = 0; n < keyCount; n += 1) {
        const made = await auth.api.createApiKey({
            body: { userId: user.id, name: `key ${n}`, permissions: { chat: ['read', 'write'] }, expiresIn: 30 * 24 * 3600 },
        });
        keys.push(made.key);
    }
    return {
        keys,
        isValid: async (key) => {
            const answer = await auth.api.verifyApiKey({ body: { key, permissions: { chat: ['read'] } } });
            return answer.valid;
        },
        close: async () => {
            redis?.disconnect();
            await pool.end();
        },
    };
}
