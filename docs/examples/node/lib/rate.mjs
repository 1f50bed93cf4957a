// The distributed rate limit, exact for this process, and counted once whatever gets lost.
//
// A node tells Redis how much it has counted in a window *in all*, this request included (ak_rate): a count is only ever raised, so a
// call that is repeated after a lost reply counts nothing twice. Absolute counts have a price: two calls at once for one key would
// both have to say "n + 1", or one would have to say "n + 2" without knowing whether the other is admitted. So for each key and
// window there is one call at a time (a lane). Requests that come meanwhile wait, and go together in the next call, as one cost:
//
// - it is allowed: all of them are, and the count is raised by exactly that much;
// - it is denied: nothing was written, and the reply says how much is left. As many of them as fit go again, in the order in which
//   they came. A single request that is denied is denied.
//
// So admitted <= limit for one node, no denied request stays counted, and a burst costs a few calls instead of one each.

import { randomBytes } from 'node:crypto';

import { Undecided } from './undecided.mjs';

const attempts = 3;

class Lane {
    #mirror;
    #identity;
    #retryWaitMs;
    #waiting = [];
    #isRunning = false;
    #limit = 0;
    #sequence = null;
    #counts = new Map(); // window sequence → what this process has counted in it
    usedAt = 0;

    constructor({ mirror, subject, width, field, retryWaitMs }) {
        this.#mirror = mirror;
        this.#identity = { subject, width, field };
        this.#retryWaitMs = retryWaitMs;
    }

    get isIdle() {
        return !this.#isRunning && this.#waiting.length === 0;
    }

    spend(cost, limit) {
        this.#limit = limit;
        return new Promise((resolve, reject) => {
            this.#waiting.push({ cost, resolve, reject });
            if (!this.#isRunning) {
                this.#isRunning = true;
                // Not at once: what comes in the same turn of the event loop goes together.
                setImmediate(() => this.#run());
            }
        });
    }

    async #run() {
        let room = this.#limit;
        while (this.#waiting.length > 0) {
            const before = this.#waiting.length;
            const batch = this.#take(room);
            const cost = batch.reduce((sum, request) => sum + request.cost, 0);
            try {
                const answer = await this.#call(cost);
                room = answer.remaining;
                if (answer.allowed) {
                    this.#admit(batch, cost, answer);
                } else if (batch.length > 1) {
                    this.#waiting.unshift(...batch);
                } else {
                    // Those that waited already when Redis was asked, and want the same, would be told the same.
                    const alike = this.#waiting.slice(0, before - 1).filter((request) => request.cost === cost);
                    this.#waiting = this.#waiting.filter((request) => !alike.includes(request));
                    [...batch, ...alike].forEach((request) => request.resolve(answer));
                }
            } catch (error) {
                batch.forEach((request) => request.reject(error));
                room = this.#limit;
            }
        }
        this.#isRunning = false;
    }

    /** As many as fit, in the order in which they came; the first one in any case. */
    #take(room) {
        let sum = this.#waiting[0].cost;
        let size = 1;
        while (size < this.#waiting.length && sum + this.#waiting[size].cost <= room) {
            sum += this.#waiting[size].cost;
            size += 1;
        }
        return this.#waiting.splice(0, size);
    }

    /** Each is told what was left after it. */
    #admit(batch, cost, answer) {
        let later = cost;
        for (const request of batch) {
            later -= request.cost;
            request.resolve({ ...answer, remaining: answer.remaining + later });
        }
    }

    /** One decision of Redis, whatever gets lost on the way. */
    async #call(cost) {
        let lost = null; // the window of a call whose reply did not come: it may have been counted
        for (let attempt = 1; ; attempt += 1) {
            const sequence = this.#sequence ?? Math.floor(Date.now() / this.#identity.width);
            const own = this.#countedIn(sequence) + cost;
            try {
                if (lost !== null && lost !== sequence) {
                    // Its window is over, where it can no longer be repeated; the count tells what became of it.
                    const ownThen = this.#countedIn(lost) + cost;
                    if (cost > 0 && (await this.#mirror.counted({ ...this.#identity, sequence: lost })) >= ownThen) {
                        this.#counts.set(lost, ownThen);
                        return await this.#afterwards();
                    }
                    lost = null;
                }
                const ownBefore = this.#countedIn(sequence - 1);
                const answer = await this.#mirror.rate({ ...this.#identity, sequence, own, ownBefore, cost, limit: this.#limit });
                if (!answer.moved) {
                    this.#sequence = sequence;
                    if (answer.allowed) {
                        this.#remember(sequence, own);
                    }
                    return answer;
                }
                this.#sequence = answer.sequence;
            } catch (error) {
                // Given up: it is not in our count. Should it be in Redis', the next request finds a field greater than its own
                // count, and takes that place.
                if (!(error instanceof Undecided) || attempt >= attempts) {
                    throw error;
                }
                lost ??= sequence;
                await this.#mirror.becomesUsable(this.#retryWaitMs);
            }
            if (attempt >= attempts) {
                throw new Undecided('rate_window');
            }
        }
    }

    /** The numbers for a request that turned out to be admitted. */
    #afterwards() {
        const sequence = this.#sequence;
        const own = this.#countedIn(sequence);
        const look = { ...this.#identity, sequence, own, ownBefore: this.#countedIn(sequence - 1), cost: 0, limit: this.#limit };
        return this.#mirror.rate(look).then(
            (answer) => (answer.moved ? { allowed: true, remaining: 0, resetMs: 0, retryAfterMs: null } : answer),
            () => ({ allowed: true, remaining: 0, resetMs: 0, retryAfterMs: null }));
    }

    #countedIn(sequence) {
        return this.#counts.get(sequence) ?? 0;
    }

    /** Also of the window before: Redis may have to be told what it has lost. */
    #remember(sequence, own) {
        this.#counts.set(sequence, own);
        for (const other of this.#counts.keys()) {
            if (other < sequence - 1) {
                this.#counts.delete(other);
            }
        }
    }
}

export class Limiter {
    #mirror;
    #field;
    #retryWaitMs;
    #lanes = new Map();
    #sweepAt = 0;

    /** node: this node's name. Each start gets a number of its own, so that what a crash forgot still counts, as another's. */
    constructor({ mirror, node, retryWaitMs = 100, boot = randomBytes(8).toString('hex') }) {
        this.#mirror = mirror;
        this.#field = `${node}:${boot}`;
        this.#retryWaitMs = retryWaitMs;
    }

    /** {allowed, remaining, resetMs, retryAfterMs}; Undecided when Redis cannot be had. cost 0 looks and takes nothing. */
    spend({ subject, limit, windowMs, cost }) {
        const now = performance.now();
        this.#sweep(now);
        const name = `${subject} ${windowMs}`;
        let lane = this.#lanes.get(name);
        if (lane === undefined) {
            lane = new Lane({ mirror: this.#mirror, subject, width: windowMs, field: this.#field, retryWaitMs: this.#retryWaitMs });
            this.#lanes.set(name, lane);
        }
        lane.usedAt = now;
        lane.forgetAfterMs = 2 * windowMs;
        return lane.spend(cost, limit);
    }

    /** Lanes whose counts matter no more go. */
    #sweep(now) {
        if (now < this.#sweepAt) {
            return;
        }
        this.#sweepAt = now + 10_000;
        for (const [name, lane] of this.#lanes) {
            if (lane.isIdle && now - lane.usedAt > lane.forgetAfterMs) {
                this.#lanes.delete(name);
            }
        }
    }
}
