// The parts, put together from a configuration.

import { createApp } from './app.mjs';
import { Decider } from './decide.mjs';
import { Jwks } from './jwks.mjs';
import { Mirror } from './mirror.mjs';
import { Postgres } from './postgres.mjs';
import { Limiter } from './rate.mjs';
import { Tokens } from './token.mjs';

export function openPostgres(config, log) {
    return new Postgres({
        connections: config.postgresConnections,
        waiting: config.postgresWaiting,
        timeoutMs: config.postgresTimeoutMs,
        log,
    });
}

/** {server, mirror, close}. The server does not listen yet. scripts and postgres can be given, for tests. */
export function createService({ config, routes, log, postgres = openPostgres(config, log), scripts }) {
    const mirror = new Mirror({
        endpoint: config.redis,
        password: config.redisPassword,
        counter: config.redisCounter,
        timeoutMs: config.redisTimeoutMs,
        pinServer: config.pinServer,
        namespace: config.namespace,
        rateNamespace: config.rateNamespace,
        scripts,
        log,
    });
    const jwks = new Jwks({ load: () => mirror.jwks(), refreshMs: config.jwksRefreshMs, maxAgeMs: config.jwksMaxAgeMs });
    const tokens = new Tokens({ jwks, issuers: config.issuers, audiences: config.audiences });
    const limiter = new Limiter({ mirror, node: config.node });
    const decider = new Decider({ tokens, mirror, limiter, postgres, config, log });

    // Either of the two is enough to answer some requests: but a Redis without a mirror, as under another namespace, answers none.
    let told = 'ok';
    async function health() {
        const [state, reachable] = await Promise.all([mirror.state(config.maxStalenessMs), postgres.isReachable()]);
        if (state !== told) {
            told = state;
            log('mirror', { state, namespace: config.namespace });
        }
        return { ok: state === 'ok' || reachable, redis: mirror.isUsable, mirror: state, postgres: reachable };
    }

    return {
        server: createApp({ decider, postgres, health, routes, forwardedHops: config.forwardedHops, log }),
        mirror,
        decider,
        close: async () => {
            mirror.close();
            await postgres.close();
        },
    };
}
