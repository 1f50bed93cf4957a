// The client, against a service whose answers the test decides.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';

import { ApikeyClient, retryAfterMs } from '../client.mjs';
import { until } from './support.mjs';

let server;
let baseUrl;
let requests; // {method, path, token}
let answer; // (request, how many there were before) → [status, headers, body], or null: the connection breaks

before(async () => {
    server = http.createServer(async (request, response) => {
        const seen = { method: request.method, path: request.url, token: request.headers.authorization?.replace('Bearer ', '') };
        requests.push(seen);
        const given = await answer(seen, requests.length - 1);
        if (given === null) {
            request.socket.destroy();
            return;
        }
        const [status, headers = {}, body = {}] = given;
        response.writeHead(status, { 'content-type': 'application/json', ...headers });
        response.end(JSON.stringify(body));
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    baseUrl = `http://127.0.0.1:${server.address().port}`;
});

after(async () => {
    await new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
    });
});

function client(options = {}) {
    requests = [];
    return new ApikeyClient({ baseUrl, token: 'first', baseDelayMs: 1, maxDelayMs: 5, ...options });
}

const due = { 'apikey-refresh-due': '?1' };

test('one refresh for fifty calls that are told it is due, and calls meanwhile wait for the new token', async () => {
    let refreshes = 0;
    let finish;
    const kept = [];
    const api = client({
        refresh: async (old) => {
            assert.equal(old, 'first');
            refreshes += 1;
            await new Promise((resolve) => (finish = resolve));
            return 'second';
        },
        onToken: (token) => kept.push(token),
    });
    answer = ({ token }) => [200, token === 'first' ? due : {}];
    await Promise.all(Array.from({ length: 50 }, () => api.fetch('/a')));
    assert.ok(requests.length === 50 && requests.every(({ token }) => token === 'first'));
    await until(() => refreshes > 0, 'the refresh');

    const waiting = Promise.all(Array.from({ length: 20 }, () => api.fetch('/b')));
    await new Promise(setImmediate);
    assert.equal(requests.filter(({ path }) => path === '/b').length, 0, 'nothing is sent while the token changes');
    finish();
    await waiting;
    assert.deepEqual([...new Set(requests.filter(({ path }) => path === '/b').map(({ token }) => token))], ['second']);
    assert.equal(refreshes, 1);
    assert.deepEqual(kept, ['second']);
});

test('the service refreshes where nobody else does', async () => {
    const api = client();
    answer = ({ path, token }) => (path === '/token/refresh' ? [200, {}, { token: `${token}+` }] : [200, token === 'first' ? due : {}]);
    await api.fetch('/a');
    await api.fetch('/a');
    assert.deepEqual(requests.map(({ method, path, token }) => `${method} ${path} ${token}`), ['GET /a first', 'POST /token/refresh first', 'GET /a first+']);
});

test('a refresh that fails leaves the old token in use, and is not tried with each call', async () => {
    let refreshes = 0;
    const refresh = async () => {
        refreshes += 1;
        throw new Error('409');
    };
    const api = client({ refresh });
    answer = () => [200, due];
    for (let i = 0; i < 5; i += 1) {
        assert.equal((await api.fetch('/a')).status, 200);
    }
    assert.equal(refreshes, 1);
    assert.ok(requests.every(({ token }) => token === 'first'));
});

test('an onToken that fails or never ends is no failed refresh, and stops neither calls nor the process', async () => {
    const failure = new Error('the disk is full');
    const ways = {
        'throws': () => {
            throw failure;
        },
        'rejects': async () => {
            throw failure;
        },
        'never ends': () => new Promise(() => {}),
    };
    const unhandled = [];
    const note = (error) => unhandled.push(error);
    process.on('unhandledRejection', note);
    try {
        for (const [way, onToken] of Object.entries(ways)) {
            for (const reports of [true, false]) {
                const told = [];
                const onError = (error) => {
                    told.push(error);
                    return Promise.reject(error);
                };
                const api = client({ refresh: async (old) => `${old}+`, onToken, ...(reports && { onError }) });
                answer = () => [200, due];
                for (let i = 0; i < 3; i += 1) {
                    assert.equal((await api.fetch('/a')).status, 200);
                }
                assert.deepEqual(requests.map(({ token }) => token), ['first', 'first+', 'first++'], `${way}: no pause after a refresh that went well`);
                await new Promise(setImmediate);
                assert.ok(!reports || told.length === (way === 'never ends' ? 0 : 3), way);
                assert.ok(told.every((error) => error === failure));
            }
        }
        await new Promise(setImmediate);
        assert.deepEqual(unhandled, []);
    } finally {
        process.off('unhandledRejection', note);
    }

    const refused = new Error('409');
    const told = [];
    const api = client({ refresh: async () => Promise.reject(refused), onError: (error) => told.push(error) });
    await api.fetch('/a');
    await api.fetch('/a');
    assert.deepEqual(told, [refused], 'a refresh that failed is told, too');
});

test('fetch is called as browsers and Workers want it, not as a member of the client', async () => {
    const real = globalThis.fetch;
    function picky(...given) {
        if (this !== undefined && this !== globalThis) {
            throw new TypeError('Illegal invocation');
        }
        return real(...given);
    }
    answer = ({ path, token }) => (path === '/token/refresh' ? [200, {}, { token: 'second' }] : [200, token === 'first' ? due : {}]);
    globalThis.fetch = picky;
    try {
        for (const api of [client(), client({ fetch: picky })]) {
            requests = [];
            await api.fetch('/a');
            await api.fetch('/a');
            assert.deepEqual(requests.map(({ path, token }) => [path, token]), [['/a', 'first'], ['/token/refresh', 'first'], ['/a', 'second']]);
        }
    } finally {
        globalThis.fetch = real;
    }
});

test('a call that was under way with the old token is repeated with the new one, whatever its method', async () => {
    let let_go;
    const held = new Promise((resolve) => (let_go = resolve));
    const api = client({ refresh: async () => 'second' });
    answer = async ({ path, token }) => {
        if (path === '/slow' && token === 'first') {
            await held;
            return [401];
        }
        return [200, token === 'first' ? due : {}];
    };
    const slow = api.fetch('/slow', { method: 'POST', body: '{}' });
    await until(() => requests.length === 1, 'the slow request');
    await api.fetch('/a');
    await api.fetch('/a');
    let_go();
    assert.equal((await slow).status, 200);
    answer = () => [401];
    requests = [];
    assert.equal((await api.fetch('/a')).status, 401);
    assert.equal(requests.length, 1, 'a refused token is not tried again');
});

test('what is idempotent is repeated, so many times, and nothing else', async () => {
    const api = client({ attempts: 4 });
    answer = (_, before_) => (before_ < 2 ? [503] : [200]);
    assert.equal((await api.fetch('/a')).status, 200);
    assert.equal(requests.length, 3);

    for (const status of [429, 502, 503, 504]) {
        answer = () => [status];
        requests = [];
        assert.equal((await api.fetch('/a', { method: 'PUT', body: 'x' })).status, status);
        assert.equal(requests.length, 4);
    }
    for (const status of [400, 401, 403, 404, 500]) {
        answer = () => [status];
        requests = [];
        assert.equal((await api.fetch('/a')).status, status);
        assert.equal(requests.length, 1);
    }
    answer = () => [503];
    requests = [];
    assert.equal((await api.fetch('/a', { method: 'POST', body: 'x' })).status, 503);
    assert.equal(requests.length, 1);
    await api.fetch('/a', { method: 'POST', body: 'x', idempotent: true });
    assert.equal(requests.length, 5);

    answer = () => null;
    requests = [];
    await assert.rejects(api.fetch('/a'), TypeError);
    assert.equal(requests.length, 4);
    requests = [];
    await assert.rejects(api.fetch('/a', { method: 'POST', body: 'x' }), TypeError);
    assert.equal(requests.length, 1);
});

/** What the client would have waited, without waiting. */
async function delays(run) {
    const found = [];
    const real = globalThis.setTimeout;
    globalThis.setTimeout = (callback, ms, ...rest) => {
        const isOurs = new Error().stack.includes('client.mjs');
        if (isOurs) {
            found.push(ms);
        }
        return real(callback, isOurs ? 0 : ms, ...rest);
    };
    try {
        await run();
    } finally {
        globalThis.setTimeout = real;
    }
    return found;
}

test('waits grow, are random from zero on, and add to what Retry-After asks for', async () => {
    answer = () => [503];
    const jitter = { baseDelayMs: 100, maxDelayMs: 350 };
    assert.deepEqual(await delays(() => client({ ...jitter, random: () => 1 }).fetch('/a')), [100, 200, 350]);
    assert.deepEqual(await delays(() => client({ ...jitter, random: () => 0 }).fetch('/a')), [0, 0, 0]);
    answer = () => [429, { 'retry-after': '7' }];
    assert.deepEqual(await delays(() => client({ ...jitter, random: () => 0.5, attempts: 2 }).fetch('/a')), [7050]);
    answer = () => [429, { 'retry-after': '61' }];
    assert.deepEqual(await delays(() => client().fetch('/a')), [], 'a longer wait than one is ready for is the caller\'s');
    assert.equal(requests.length, 1);

    const now = Date.parse('2026-11-25T12:00:00Z');
    const header = (value) => new Response(null, { headers: { 'retry-after': value } });
    assert.equal(retryAfterMs(header('Wed, 25 Nov 2026 12:00:09 GMT'), now), 9000);
    assert.equal(retryAfterMs(header('Wed, 25 Nov 2026 11:00:00 GMT'), now), 0);
    assert.equal(retryAfterMs(header('soon'), now), 0);
});

test('an abort ends requests, waits, and waiting for a refresh', async () => {
    const reason = new Error('enough');
    const aborted = async (run) => {
        const controller = new AbortController();
        const startedAt = performance.now();
        const promise = run(controller.signal);
        setTimeout(() => controller.abort(reason), 20);
        await assert.rejects(promise, (error) => error === reason);
        assert.ok(performance.now() - startedAt < 5000);
    };
    answer = () => new Promise(() => {});
    await aborted((signal) => client().fetch('/a', { signal }));
    answer = () => [503, { 'retry-after': '30' }];
    await aborted((signal) => client().fetch('/a', { signal }));
    answer = () => [200, due];
    const api = client({ refresh: () => new Promise(() => {}) });
    await api.fetch('/a');
    await aborted((signal) => api.fetch('/a', { signal }));
    requests = [];
    await assert.rejects(client().fetch('/a', { signal: AbortSignal.abort(reason) }), (error) => error === reason);
    assert.equal(requests.length, 0);
});

test('the token is sent to its service only', async () => {
    const fetch = () => assert.fail('it is sent');
    for (const url of ['https://other.example/a', '//other.example/a', baseUrl.replace('http', 'https')]) {
        await assert.rejects(client({ fetch }).fetch(url), /service of baseUrl only/);
    }
});

test('a redirect is not followed, whatever the caller asks for', async () => {
    const visits = [];
    const elsewhere = http.createServer((request, response) => {
        visits.push(request.url);
        response.end('{"token":"stolen"}');
    });
    await new Promise((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    try {
        const other = `http://127.0.0.1:${elsewhere.address().port}`;
        answer = ({ path }) => [307, { location: path.startsWith('/out') ? `${other}${path}` : '/inside' }];
        for (const path of ['/out', '/in']) {
            await assert.rejects(client({ attempts: 1 }).fetch(path, { redirect: 'follow' }), TypeError);
            assert.deepEqual(requests.map((request) => request.path), [path]);
        }
        const errors = [];
        const api = client({ onError: (error) => errors.push(error) });
        answer = ({ path }) => (path === '/token/refresh' ? [307, { location: `${other}/token/refresh` }] : [200, due]);
        await api.fetch('/a');
        await until(() => errors.length > 0, 'the refresh that fails');
        assert.ok(errors[0] instanceof TypeError);
        await api.fetch('/b');
        assert.equal(requests.at(-1).token, 'first');
        assert.deepEqual(visits, []);
    } finally {
        await new Promise((resolve) => {
            elsewhere.close(resolve);
            elsewhere.closeAllConnections();
        });
    }
});
