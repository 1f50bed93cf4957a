// Thrown by every part that cannot tell: the mirror says "unknown", Redis does not answer, an answer makes no sense, the token's
// kind cannot be checked offline. Whoever catches it asks PostgreSQL, or answers 503. Nobody lets the request through.

export class Undecided extends Error {
    /** why: one word for logs and counters, never anything of the token. */
    constructor(why, cause) {
        super(why, { cause });
        this.name = 'Undecided';
        this.why = why;
    }
}
