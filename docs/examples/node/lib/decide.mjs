// What becomes of a request, in the order of the extension: proof, expiry, withdrawal, environment, permission, rate limit. A denial at
// one step consumes nothing at a later one. It reads from top to bottom; whatever cannot be decided here is Undecided, and then
// PostgreSQL decides all of it, but for what only this node knows: whose tokens it takes, for whom, and of which environments.
//
// A decision: {code, status, principal, keyId, missing, rate, retryAfterMs, refreshDue, by: 'node' | 'postgres', why}. status 200 is
// the only one that lets a request through.

import { describe, reason } from './log.mjs';
import { isAllowed } from './permission.mjs';
import { Undecided } from './undecided.mjs';

const statusOf = {
    VALID: 200, MISSING: 401, MALFORMED: 401, SIGNATURE_INVALID: 401, EXPIRED: 401, REVOKED: 401,
    FORBIDDEN: 403, INSUFFICIENT_PERMISSIONS: 403, RATE_LIMITED: 429, UNAVAILABLE: 503,
};

const decision = (code, more = {}) => ({
    code, status: statusOf[code], principal: null, keyId: null, missing: null, rate: null, retryAfterMs: null, refreshDue: false, ...more,
});

// What PostgreSQL says once it has nothing against the key itself: the rest comes after the environment.
const afterEnvironment = new Set(['VALID', 'INSUFFICIENT_PERMISSIONS', 'RATE_LIMITED']);

export class Decider {
    #tokens;
    #mirror;
    #limiter;
    #postgres;
    #config;
    #log;

    /** postgres: anything with validate(). config: {maxStalenessMs, environments}. */
    constructor({ tokens, mirror, limiter, postgres, config, log = () => {} }) {
        this.#tokens = tokens;
        this.#mirror = mirror;
        this.#limiter = limiter;
        this.#postgres = postgres;
        this.#config = config;
        this.#log = log;
    }

    /**
     * token: null when there was none. permission: null asks for none. client: the address as text. strict: PostgreSQL decides in
     * any case, for what is worth a round trip. Never rejects.
     */
    async decide({ token, permission = null, client = null, cost = 1, strict = false }) {
        if (token === null) {
            return { ...decision('MISSING'), by: 'node', why: null };
        }
        let why = 'strict';
        if (!strict) {
            try {
                return { ...(await this.#decideHere({ token, permission, cost })), by: 'node', why: null };
            } catch (error) {
                why = error instanceof Undecided ? error.why : 'failure';
                if (why === 'failure') {
                    // A mistake in this program. It must not let anybody through either.
                    this.#log('failure', describe(error));
                }
            }
        }
        // As in verify(): the answer is the same, proven or not, and nobody needs to be asked, nor anything to be counted, for it.
        if (!this.#tokens.mayBeForUs(token)) {
            return { ...decision('MALFORMED'), by: 'node', why: null };
        }
        return { ...(await this.#ask({ token, permission, client, cost })), by: 'postgres', why };
    }

    async #decideHere({ token, permission, cost }) {
        const proof = await this.#tokens.verify(token);
        if (proof.code !== 'VALID') {
            return decision(proof.code);
        }
        const { claims } = proof;
        const { keyId } = claims;

        // Both are on their way at once, but what is withdrawn is withdrawn whatever the role says.
        const reading = this.#mirror.role(claims.role);
        reading.catch(() => {});
        if (!(await this.#mirror.isGood(keyId, claims.generation, this.#config.maxStalenessMs))) {
            return decision('REVOKED', { keyId });
        }
        if (!this.#isEnvironmentAllowed(claims.environment)) {
            if (claims.environment === null) {
                throw new Undecided('no_environment');
            }
            return decision('FORBIDDEN', { keyId });
        }
        const role = await reading;
        if (!isAllowed(permission, role.grants, claims.scope)) {
            return decision('INSUFFICIENT_PERMISSIONS', { keyId, missing: [permission] });
        }
        const known = {
            keyId,
            principal: { keyId, owner: claims.owner, role: claims.role, environment: claims.environment },
            refreshDue: claims.expiresAt * 1000 - role.refreshWindowMs <= Date.now(),
        };
        if (role.rate === null) {
            return decision('VALID', known);
        }
        const { limit, windowMs } = role.rate;
        const { allowed, remaining, resetMs, retryAfterMs } = await this.#limiter.spend({ subject: keyId, limit, windowMs, cost });
        const rate = { limit, windowMs, remaining, resetMs };
        return allowed === true ? decision('VALID', { ...known, rate }) : decision('RATE_LIMITED', { keyId, rate, retryAfterMs });
    }

    #isEnvironmentAllowed(environment) {
        const { environments } = this.#config;
        return environments.length === 0 || environments.includes(environment);
    }

    async #ask(request) {
        try {
            const verdict = await this.#postgres.validate(request);
            // What PostgreSQL has counted of a valid one is counted: it cannot be told our environments. That of nobody's key
            // (the free tier) is none of them.
            return afterEnvironment.has(verdict.code) && !this.#isEnvironmentAllowed(verdict.environment)
                ? decision('FORBIDDEN', { keyId: verdict.keyId })
                : verdict;
        } catch (error) {
            this.#log('postgres_unavailable', reason(error));
            return decision('UNAVAILABLE');
        }
    }
}
