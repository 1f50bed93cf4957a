// The Redis mirror as a node reads it: names of keys, the two Lua scripts, and what their replies may look like. Every failure, and
// every reply that is not one of those, is Undecided.

import { createHash } from 'node:crypto';
import { EventEmitter, once } from 'node:events';

import { Redis } from 'ioredis';

import { reason } from './log.mjs';
import { isGrantList } from './permission.mjs';
import { scripts as known } from './scripts.mjs';
import { Undecided } from './undecided.mjs';

/** Buckets spread keys over the slots of a Cluster: the first hex digit of SHA-256 of what the key is about. */
export const bucketOf = (subject) => createHash('sha256').update(subject).digest('hex')[0];

const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

// A rate that is not there is not one of null, which means no limit.
function readRate(rate) {
    if (rate === null) {
        return null;
    }
    if (!isCount(rate?.limit) || !isCount(rate.window_ms) || rate.limit === 0 || rate.window_ms === 0) {
        throw new Undecided('role_format');
    }
    return { limit: rate.limit, windowMs: rate.window_ms };
}

/** {grants, rate: {limit, windowMs} or null, refreshWindowMs} from a field of the roles' hash. */
export function readRole(text) {
    let role;
    try {
        role = JSON.parse(text);
    } catch (error) {
        throw new Undecided('role_format', error);
    }
    if (!isGrantList(role?.permissions)) {
        throw new Undecided('role_format');
    }
    const refreshWindowMs = isCount(role.refresh_window_ms) ? role.refresh_window_ms : 0;
    return { grants: role.permissions, rate: readRate(role.rate), refreshWindowMs };
}

/** A connection that never makes a request wait for Redis to come back. */
function open({ endpoint, user, password, timeoutMs, log }) {
    const redis = new Redis({
        ...endpoint,
        ...(user && { username: user }),
        ...(password && { password }),
        // A node's user may do what a node needs, and no more.
        disableClientInfo: true,
        connectTimeout: 4 * timeoutMs,
        disconnectTimeout: timeoutMs,
        commandTimeout: timeoutMs,
        // A request waits for an answer, or turns to PostgreSQL; it does not wait for Redis to come back, nor is it sent
        // again behind our back.
        enableOfflineQueue: false,
        autoResendUnfulfilledCommands: false,
        maxRetriesPerRequest: 0,
        retryStrategy: (attempt) => Math.random() * Math.min(2000, 20 * 2 ** attempt),
    });
    // Told once for each outage, not for each attempt.
    let quiet = false;
    redis.on('error', (error) => {
        if (!quiet) {
            log('redis_error', reason(error));
        }
        quiet = true;
    });
    redis.on('ready', () => (quiet = false));
    return redis;
}

export class Mirror {
    #redis;
    #counters;
    #events = new EventEmitter();
    #scripts;
    #runId = null;
    #canEvalReadOnly = false;
    #pinServer;
    #prefix;
    #ratePrefix;

    /**
     * endpoint: as redisEndpoint() of config.mjs makes it. counter: {user, password} of the user that counts, where it is another than
     * the one that reads. log(event, fields) is told of errors of the connections. scripts can be given, for tests.
     */
    constructor({ endpoint, password, counter = null, timeoutMs, pinServer = true, namespace, rateNamespace = namespace, scripts = known, log = () => {} }) {
        this.#scripts = scripts;
        this.#pinServer = pinServer;
        this.#prefix = `ak:${namespace}`;
        this.#ratePrefix = `ak:${rateNamespace}`;
        this.#redis = open({ endpoint, password, timeoutMs, log });
        this.#counters = counter === null ? this.#redis : open({ endpoint, ...counter, timeoutMs, log });
        this.#redis.on('ready', () => this.#identify().catch(() => {}));
        this.#redis.on('close', () => (this.#runId = null));
        this.#events.setMaxListeners(0);
    }

    get isUsable() {
        return this.#redis.status === 'ready' && this.#runId !== null;
    }

    /** Waits so long for connections that are of use. Returns whether there are. */
    async becomesUsable(waitMs) {
        const signal = AbortSignal.timeout(waitMs);
        if (!this.isUsable) {
            await once(this.#events, 'usable', { signal }).catch(() => {});
        }
        if (this.#counters.status !== 'ready') {
            await once(this.#counters, 'ready', { signal }).catch(() => {});
        }
        return this.isUsable && this.#counters.status === 'ready';
    }

    /** Resolves where the key's generation is not withdrawn, with true, or is, with false. Undecided: the mirror cannot say. */
    async isGood(keyId, generation, maxStalenessMs) {
        const bucket = `{${this.#prefix}:${bucketOf(keyId)}}`;
        const keys = [`${bucket}:rev`, `${bucket}:meta`];
        const reply = await this.#send((redis) =>
            // It only reads, and a user who may not write can say so, where there is a way to.
            redis.call(this.#canEvalReadOnly ? 'evalsha_ro' : 'evalsha', this.#scripts.check, keys.length, ...keys,
                keyId, generation, maxStalenessMs, this.#pinServer ? this.#runId : ''));
        const [verdict, age, why] = Array.isArray(reply) && reply.length === 3 ? reply : [];
        if (verdict === 'ok' && why === '' && isCount(age) && age <= maxStalenessMs) {
            return true;
        }
        if (verdict === 'revoked') {
            return false;
        }
        throw new Undecided(verdict === 'unknown' && /^[a-z_]{1,32}$/.test(why) ? `mirror_${why}` : 'mirror_reply');
    }

    /**
     * What the mirror is good for: 'ok', or why nothing can be decided with it. Of one bucket, which all of them are like but in the
     * moments in which the mirror is being filled. no_meta: nothing was ever written to this namespace.
     */
    async state(maxStalenessMs) {
        try {
            await this.isGood('00000000-0000-0000-0000-000000000000', 1, maxStalenessMs);
            return 'ok';
        } catch (error) {
            return (error.why ?? 'failure').replace(/^mirror_/, '');
        }
    }

    /** {grants, rate} of a role. */
    async role(name) {
        const text = await this.#send((redis) => redis.hget(`{${this.#prefix}:roles}`, name));
        if (typeof text !== 'string') {
            throw new Undecided('role_missing');
        }
        return readRole(text);
    }

    /** The key set's text, or null. */
    jwks() {
        return this.#send((redis) => redis.get(`{${this.#prefix}:jwks}`));
    }

    /**
     * One call of ak_rate. own, ownBefore: all that this field has counted in this window, cost included, and in the one before.
     * {moved: true, sequence}: nothing was done, because it is that window by Redis' clock. Else {allowed, remaining, resetMs,
     * retryAfterMs}, the last one null where no wait helps.
     */
    async rate({ subject, width, sequence, field, own, ownBefore, cost, limit }) {
        const keys = [this.#rateKey(subject, width, sequence), this.#rateKey(subject, width, sequence - 1)];
        const reply = await this.#send((redis) =>
            redis.evalsha(this.#scripts.rate, keys.length, ...keys, field, own, cost, limit, width, sequence, ownBefore), this.#counters);
        const [allowed, remaining, resetMs, retryAfterMs, sequenceNow] = Array.isArray(reply) && reply.length === 5 ? reply : [];
        if (![remaining, resetMs, sequenceNow].every(isCount) || !(isCount(retryAfterMs) || retryAfterMs === -1)) {
            throw new Undecided('rate_reply');
        }
        if (allowed === -1 && sequenceNow !== sequence) {
            return { moved: true, sequence: sequenceNow };
        }
        if ((allowed !== 0 && allowed !== 1) || sequenceNow !== sequence) {
            throw new Undecided('rate_reply');
        }
        return { moved: false, allowed: allowed === 1, remaining, resetMs, retryAfterMs: retryAfterMs === -1 ? null : retryAfterMs };
    }

    /** What a field holds in some window. */
    async counted({ subject, width, sequence, field }) {
        const key = this.#rateKey(subject, width, sequence);
        const count = Number((await this.#send((redis) => redis.hget(key, field), this.#counters)) ?? 0);
        if (!isCount(count)) {
            throw new Undecided('rate_reply');
        }
        return count;
    }

    close() {
        this.#runId = null;
        this.#redis.disconnect();
        this.#counters.disconnect();
    }

    #rateKey(subject, width, sequence) {
        return `{${this.#ratePrefix}:${bucketOf(subject)}}:rate:${subject}:default.${width}:${sequence}`;
    }

    async #send(command, connection = this.#redis) {
        // Here and in the command's first step nothing is awaited, so that the connection is the one that #runId is of.
        if (!this.isUsable || connection.status !== 'ready') {
            throw new Undecided('redis_unreachable');
        }
        try {
            return await command(connection);
        } catch (error) {
            if (error.message === 'Command timed out') {
                // A connection that does not answer in time is of no use to the next request either.
                this.#reconnect(connection);
                throw new Undecided('redis_timeout', error);
            }
            // The worker loads them again within a second or so.
            throw new Undecided(error.message.startsWith('NOSCRIPT') ? 'redis_script' : 'redis_error', error);
        }
    }

    #reconnect(connection) {
        if (connection === this.#redis) {
            if (this.#runId === null) {
                return;
            }
            this.#runId = null;
        }
        if (connection.status === 'ready') {
            connection.disconnect(true);
        }
    }

    /** Which process is it that answers? Until that is known, it is not asked anything. */
    async #identify() {
        let info = '';
        try {
            info = await this.#redis.info('server');
        } catch (error) {
            // ACLs may forbid INFO; then nothing can be pinned, and a pinning node asks PostgreSQL.
            if (!error.message.startsWith('NOPERM')) {
                this.#redis.disconnect(true);
                return;
            }
        }
        this.#canEvalReadOnly = Number(/^redis_version:([0-9]+)/m.exec(info)?.[1] ?? 0) >= 7;
        this.#runId = /^run_id:([0-9a-f]+)\r?$/m.exec(info)?.[1] ?? 'unknown';
        this.#events.emit('usable');
    }
}
