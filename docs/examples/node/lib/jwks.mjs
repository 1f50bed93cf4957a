// The public signing keys, as the mirror publishes them. Kept in memory, asked for anew every few seconds and when a token names
// a key that is not there. A retired signing key must not be trusted for long after it left the set, so keys that could not be
// asked for anew for maxAgeMs count as unknown, all of them.

import { importJWK } from 'jose';

import { Undecided } from './undecided.mjs';

const isKid = (kid) => typeof kid === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(kid);

// One key, one algorithm (RFC 8725 section 3.1): it follows from the key. A symmetric key has no place in a public set.
const algorithms = new Map([
    ['OKP Ed25519', 'EdDSA'],
    ['EC P-256', 'ES256'],
]);

async function readKey(jwk) {
    const algorithm = algorithms.get(`${jwk?.kty} ${jwk?.crv}`);
    if (algorithm === undefined || jwk.alg !== algorithm || jwk.use !== 'sig' || !isKid(jwk.kid) || 'd' in jwk) {
        return null;
    }
    return { kid: jwk.kid, algorithm, key: await importJWK(jwk, algorithm) };
}

/** kid → {algorithm, key}. Keys of other kinds are left out; throws where the text is no key set, or names a key twice. */
export async function readKeySet(text) {
    const { keys } = JSON.parse(text);
    const read = (await Promise.all(keys.map(readKey))).filter((key) => key !== null);
    const set = new Map(read.map((key) => [key.kid, key]));
    if (set.size !== read.length) {
        throw new Error('a kid is there twice');
    }
    return set;
}

export class Jwks {
    #load;
    #refreshMs;
    #maxAgeMs;
    #attemptMs;
    #now;
    #keys = new Map();
    #loadedAt = -Infinity;
    #attemptedAt = -Infinity;
    #loading = null;

    /** load: () → Promise of the set's text, or null where there is none. attemptMs: load is called no more often than that. */
    constructor({ load, refreshMs, maxAgeMs, attemptMs = 1000, now = () => performance.now() }) {
        this.#load = load;
        this.#refreshMs = refreshMs;
        this.#maxAgeMs = maxAgeMs;
        this.#attemptMs = attemptMs;
        this.#now = now;
    }

    /** The key of that kid, or null when the set has none. Undecided when the set is not to be had or too old. */
    async find(kid) {
        if (this.#age() > this.#maxAgeMs) {
            await this.#refresh();
        } else if (this.#age() > this.#refreshMs) {
            this.#refresh();
        }
        if (!this.#keys.has(kid)) {
            await this.#refresh();
        }
        if (this.#age() > this.#maxAgeMs) {
            throw new Undecided('jwks_stale');
        }
        return this.#keys.get(kid) ?? null;
    }

    #age() {
        return this.#now() - this.#loadedAt;
    }

    /** Everybody waits for the same attempt. Never rejects: how old the set is tells whether it went well. */
    #refresh() {
        const now = this.#now();
        // Tokens that name made-up keys must not become as many requests to Redis.
        if (this.#loading === null && now - this.#attemptedAt >= this.#attemptMs) {
            this.#attemptedAt = now;
            this.#loading = this.#read(now)
                .catch(() => {})
                .finally(() => {
                    this.#loading = null;
                });
        }
        return this.#loading;
    }

    async #read(startedAt) {
        const text = await this.#load();
        if (text !== null) {
            this.#keys = await readKeySet(text);
            this.#loadedAt = startedAt;
        }
    }
}
