// The distributed limit: exact for one node, and counted once whatever gets lost.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';

import { Mirror } from '../lib/mirror.mjs';
import { Limiter } from '../lib/rate.mjs';
import { Undecided } from '../lib/undecided.mjs';
import { LossyProxy, makeSigningKey, makeToken, MirrorWriter, patienceMs, PrivateRedis, startService, stopServices } from './support.mjs';

// So wide that no test is at its edge.
const windowMs = 1e10;

let redis;
let mirrorState;
let proxy;
const opened = [];

before(async () => {
    redis = await new PrivateRedis().start();
    mirrorState = new MirrorWriter(redis, 'test-1');
    proxy = await new LossyProxy().start(`${redis.socket}.proxy`, redis.socket);
});

after(async () => {
    opened.forEach((mirror) => mirror.close());
    await stopServices();
    await proxy.stop();
    await redis.stop();
});

async function connect(path, timeoutMs = 10_000) {
    const mirror = new Mirror({ endpoint: { path }, timeoutMs, namespace: 'test-1' });
    opened.push(mirror);
    assert.ok(await mirror.becomesUsable(patienceMs));
    return mirror;
}

const many = (count, one) => Promise.all(Array.from({ length: count }, (_, i) => one(i)));

/** Counts the calls of ak_rate. */
function counting(mirror) {
    const counter = { calls: 0 };
    counter.mirror = Object.assign(Object.create(null), {
        rate: (request) => {
            counter.calls += 1;
            return mirror.rate(request);
        },
        counted: (request) => mirror.counted(request),
        becomesUsable: (waitMs) => mirror.becomesUsable(waitMs),
    });
    return counter;
}

test('200 requests at once of one key against a limit of 50: 50 are let through, over HTTP', async () => {
    const key = await makeSigningKey();
    await mirrorState.jwks(key.jwk);
    await mirrorState.role('limited', { permissions: ['*'], rate: { limit: 50, window_ms: windowMs } });
    await mirrorState.ready();
    const service = await startService({ socket: redis.socket, namespace: 'test-1' });
    const id = randomUUID();
    const token = await makeToken(key, { jti: `${id}.1`, role: 'limited' });
    await mirrorState.ready();
    const answers = await many(200, () => service.get('/read', token));
    await service.stop();
    assert.equal(service.postgres.asked.length, 0);
    const admitted = answers.filter(({ status }) => status === 200);
    assert.equal(admitted.length, 50);
    const left = admitted.map(({ headers }) => Number(/r=(\d+)/.exec(headers.get('ratelimit'))[1]));
    assert.deepEqual(left.sort((a, b) => a - b), Array.from({ length: 50 }, (_, i) => i), 'each is told another number that is left');
    assert.ok(answers.filter(({ status }) => status === 429).every(({ headers }) => Number(headers.get('retry-after')) > 0 && headers.get('ratelimit').includes('r=0')));
    assert.equal(await mirrorState.counted(id), 50, 'and Redis has counted those, and no other');
});

test('a burst is a few calls, and requests of different cost fill the limit in their order', async () => {
    const counter = counting(await connect(redis.socket));
    const limiter = new Limiter({ mirror: counter.mirror, node: 'node-1' });
    const subject = randomUUID();
    const costs = Array.from({ length: 120 }, (_, i) => [1, 2, 7, 0][i % 4]);
    const answers = await many(costs.length, (i) => limiter.spend({ subject, limit: 104, windowMs, cost: costs[i] }));
    const spent = costs.filter((_, i) => answers[i].allowed).reduce((sum, cost) => sum + cost, 0);
    assert.equal(spent, 104, 'what is left over for the small is given to the small');
    assert.equal(await mirrorState.counted(subject), 104);
    assert.ok(answers.every(({ allowed }, i) => costs[i] > 0 || allowed), 'who only looks is never refused');
    assert.ok(answers.every(({ allowed, retryAfterMs }) => allowed || retryAfterMs > 0));
    assert.ok(counter.calls < 30, `${counter.calls} calls`);

    const huge = await limiter.spend({ subject, limit: 104, windowMs, cost: 105 });
    assert.deepEqual([huge.allowed, huge.retryAfterMs], [false, null]);
});

test('nodes share a limit: what one has counted the other one finds', async () => {
    const mirror = await connect(redis.socket);
    const [a, b] = ['node-1', 'node-2'].map((node) => new Limiter({ mirror, node }));
    const subject = randomUUID();
    const answers = await many(100, (i) => (i % 2 ? a : b).spend({ subject, limit: 30, windowMs, cost: 1 }));
    assert.equal(answers.filter(({ allowed }) => allowed).length, 30);
    // A restart of a node is another boot: what it had counted before still counts, as somebody else's.
    const reborn = new Limiter({ mirror, node: 'node-1' });
    assert.equal((await reborn.spend({ subject, limit: 30, windowMs, cost: 1 })).allowed, false);
    assert.equal((await reborn.spend({ subject, limit: 31, windowMs, cost: 1 })).allowed, true);
    assert.equal(await mirrorState.counted(subject), 31);
});

for (const [how, rounds] of [['reset', 5], ['silent', 2]]) {
    test(`a reply that is lost (${how}) is asked for again, and nothing is counted twice`, async () => {
        const mirror = await connect(proxy.path, 1500);
        const limiter = new Limiter({ mirror, node: 'node-1', retryWaitMs: patienceMs });
        const subject = randomUUID();
        const spend = () => limiter.spend({ subject, limit: 50, windowMs, cost: 1 });
        let admitted = 0;
        for (let round = 0; round < rounds; round += 1) {
            proxy.lose(how, 1);
            const answers = await many(Math.ceil(75 / rounds), spend);
            assert.ok(proxy.lost > 0, 'a reply was lost');
            admitted += answers.filter(({ allowed }) => allowed).length;
            assert.equal(await mirrorState.counted(subject), admitted, 'what was let through is what is counted');
        }
        assert.equal(admitted, 50);
    });
}

test('a request whose replies all get lost is not decided here, and its count serves the next one', async () => {
    const mirror = await connect(proxy.path, 1500);
    const limiter = new Limiter({ mirror, node: 'node-1', retryWaitMs: patienceMs });
    const subject = randomUUID();
    const spend = () => limiter.spend({ subject, limit: 10, windowMs, cost: 1 });
    await many(4, spend);
    proxy.lose('reset', 3);
    await assert.rejects(spend(), Undecided);
    assert.equal(await mirrorState.counted(subject), 5, 'Redis had counted it');
    const answers = await many(20, spend);
    assert.equal(answers.filter(({ allowed }) => allowed).length, 6, 'four before and six now: the limit, neither more nor less');
    assert.equal(await mirrorState.counted(subject), 10);
});

test('counts that Redis has lost come back with the next request', async () => {
    const mirror = await connect(redis.socket);
    const limiter = new Limiter({ mirror, node: 'node-1' });
    const subject = randomUUID();
    const spend = () => limiter.spend({ subject, limit: 10, windowMs, cost: 1 });
    await many(7, spend);
    await redis.admin.flushall();
    const answers = await many(10, spend);
    assert.equal(answers.filter(({ allowed }) => allowed).length, 3);
});

test('windows come and go by the clock of Redis', async () => {
    const mirror = await connect(redis.socket);
    const limiter = new Limiter({ mirror, node: 'node-1' });
    const subject = randomUUID();
    const spend = () => limiter.spend({ subject, limit: 20, windowMs: 200, cost: 1 });
    const startedAt = performance.now();
    let admitted = 0;
    let denied = null;
    while (performance.now() - startedAt < 1000) {
        const answers = await many(30, spend);
        admitted += answers.filter(({ allowed }) => allowed).length;
        denied = answers.find(({ allowed }) => !allowed) ?? denied;
    }
    const windows = (performance.now() - startedAt) / 200;
    assert.ok(denied.retryAfterMs > 0 && denied.retryAfterMs <= 400 && denied.resetMs <= 200);
    // In any stretch as long as a window, at most 20; over n windows at most n + 1 times as many. But more than in one.
    assert.ok(admitted <= 20 * (windows + 1) && admitted > 20, `${admitted} in ${windows} windows`);
});

/** A Redis whose clock and faults the test decides; counts as ak_rate does. */
class FakeMirror {
    sequence = 100;
    fields = new Map();
    faults = []; // what becomes of the next calls: 'lost' (done, no reply), 'refused' (not done), or a function to call before

    #at(sequence) {
        return this.fields.get(sequence) ?? 0;
    }

    async rate({ sequence, own, ownBefore, cost, limit }) {
        const fault = this.faults.shift();
        if (typeof fault === 'function') {
            fault();
        }
        if (fault === 'refused') {
            throw new Undecided('redis_unreachable');
        }
        if (sequence !== this.sequence) {
            return { moved: true, sequence: this.sequence };
        }
        const current = Math.max(this.#at(sequence), own);
        const allowed = current + Math.max(this.#at(sequence - 1), ownBefore) <= limit || cost === 0;
        if (allowed && cost > 0) {
            this.fields.set(sequence, current);
        }
        if (fault === 'lost') {
            throw new Undecided('redis_timeout');
        }
        return { moved: false, allowed, remaining: Math.max(0, limit - current), resetMs: 1000, retryAfterMs: allowed ? null : 1000 };
    }

    async counted({ sequence }) {
        return this.#at(sequence);
    }

    async becomesUsable() {
        this.onWait?.();
        return true;
    }
}

function fakeLimiter() {
    const mirror = new FakeMirror();
    const limiter = new Limiter({ mirror, node: 'node-1' });
    return { mirror, spend: (cost = 1) => limiter.spend({ subject: 'k', limit: 1000, windowMs: 1e12, cost }) };
}

test('a window that ends before a lost call could be repeated: it is counted in the one or the other, never in both', async () => {
    for (const fault of ['lost', 'refused']) {
        const { mirror, spend } = fakeLimiter();
        await spend(3);
        mirror.faults = [fault];
        mirror.onWait = () => {
            mirror.sequence = 101;
        };
        assert.equal((await spend(5)).allowed, true, fault);
        assert.deepEqual([...mirror.fields], fault === 'lost' ? [[100, 8]] : [[100, 3], [101, 5]], fault);
        assert.equal((await spend(2)).allowed, true);
        assert.equal(mirror.fields.get(101), fault === 'lost' ? 2 : 7, fault);
    }
});

test('a clock that goes back does not make a node forget what it has counted', async () => {
    const { mirror, spend } = fakeLimiter();
    await spend(3);
    mirror.sequence = 101;
    await spend(4);
    mirror.sequence = 100;
    await spend(1);
    assert.deepEqual([...mirror.fields], [[100, 4], [101, 4]]);
});

test('what Redis has lost of the window before still counts', async () => {
    const { mirror, spend } = fakeLimiter();
    await spend(600);
    mirror.sequence = 101;
    await spend(1);
    mirror.fields.clear();
    assert.equal((await spend(400)).allowed, false);
});

test('a window that moves whenever it is asked about is not decided', async () => {
    const { mirror, spend } = fakeLimiter();
    mirror.faults = Array(9).fill(() => {
        mirror.sequence += 1;
    });
    await assert.rejects(spend(), Undecided);
});
