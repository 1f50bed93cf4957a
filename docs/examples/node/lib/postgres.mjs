// Asking PostgreSQL: the truth, for what a node cannot decide by itself. Small time-outs, few connections, a short queue: an API
// that is flooded with tokens nobody can check offline must not take the database along.

import pg from 'pg';

import { reason } from './log.mjs';

// Tokens are bind parameters, never text of a statement: so they are in no log of the server and in no pg_stat_activity.
const validate = `SELECT v.*, extract(epoch FROM v.rate_reset)::float8 AS reset_s, extract(epoch FROM v.retry_after)::float8 AS retry_s
                    FROM apikey.validate($1, $2, $3, $4) v`;
const refresh = 'SELECT * FROM apikey.refresh($1)';

/**
 * A statement that the server gives up in time, by itself: else those that wait for a lock would stay, each with its connection, when
 * nobody waits for their answer any more. statement_timeout is neither a parameter of the connection nor set by a statement of its
 * own: a pooler refuses the one, and has another server connection for the other. It goes with the statement, in the same round trip
 * and the same implicit transaction, and ends with it. Nor is the statement prepared by name, which a pooler may not keep.
 */
class TimedQuery extends pg.Query {
    #timeoutMs;

    constructor(text, values, timeoutMs) {
        super({ text, values, queryMode: 'extended' });
        this.#timeoutMs = timeoutMs;
    }

    prepare(connection) {
        connection.parse({ text: "SELECT pg_catalog.set_config('statement_timeout', $1, true)" });
        connection.bind({ values: [String(this.#timeoutMs)] });
        connection.describe({ type: 'P' });
        connection.execute({});
        super.prepare(connection);
    }
}

const denials = new Set([401, 403, 429, 503]);
const milliseconds = (seconds) => (seconds === null ? null : Math.ceil(seconds * 1000));

/** A row of apikey.validate() as a decision (decide.mjs), with the key's environment, also where the answer is no. */
export function readVerdict(row) {
    const isValid = row.valid === true && row.code === 'VALID' && row.http_status === 200;
    if (!isValid && !denials.has(row.http_status)) {
        return { code: 'UNAVAILABLE', status: 503 };
    }
    const limit = row.rate_limit === null ? null : Number(row.rate_limit);
    return {
        code: row.code,
        status: row.http_status,
        principal: isValid ? { keyId: row.key_id, owner: row.owner, role: row.role, environment: row.environment } : null,
        keyId: row.key_id,
        environment: row.environment,
        missing: row.detail?.missing ?? null,
        rate: limit === null ? null : { limit, windowMs: null, remaining: Number(row.rate_remaining), resetMs: milliseconds(row.reset_s) },
        retryAfterMs: milliseconds(row.retry_s),
        refreshDue: row.refresh_due === true,
    };
}

export class Postgres {
    #pool;
    #waiting;
    #timeoutMs;

    /** Where to connect to: libpq's environment variables. */
    constructor({ connections, waiting, timeoutMs, log = () => {}, ...where }) {
        this.#waiting = waiting;
        this.#timeoutMs = timeoutMs;
        this.#pool = new pg.Pool({
            ...where,
            max: connections,
            connectionTimeoutMillis: timeoutMs,
            query_timeout: timeoutMs,
            application_name: 'apikey-node',
        });
        // A connection that ends while nobody uses it: the pool opens another one.
        this.#pool.on('error', (error) => log('postgres_error', reason(error)));
    }

    /** The decision of PostgreSQL; rejects when it cannot be had. */
    async validate({ token, permission, client, cost }) {
        const { rows } = await this.#query(validate, [token, permission, client, cost]);
        return readVerdict(rows[0]);
    }

    /** {token, …} of the next generation, or {denied: code, status, detail}; rejects when neither can be had. */
    async refresh(token) {
        try {
            const { rows } = await this.#query(refresh, [token]);
            return rows[0];
        } catch (error) {
            // SQLSTATE PT + HTTP status, the code as message, JSON as detail.
            const [, status] = /^PT([0-9]{3})$/.exec(error.code ?? '') ?? [];
            if (status === undefined) {
                throw error;
            }
            return { denied: error.message, status: Number(status), detail: JSON.parse(error.detail ?? 'null') };
        }
    }

    async isReachable() {
        return this.#query('SELECT 1').then(() => true, () => false);
    }

    close() {
        return this.#pool.end();
    }

    /** The result of the statement. */
    async #query(text, values = []) {
        if (this.#pool.waitingCount >= this.#waiting) {
            throw new Error('too many requests wait for PostgreSQL');
        }
        const results = await this.#pool.query(new TimedQuery(text, values, this.#timeoutMs));
        return results.at(-1);
    }
}
