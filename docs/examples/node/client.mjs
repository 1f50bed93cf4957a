// A client for services like this one: sends the token, refreshes it when the service says that it is time, and tries again what may
// be tried again. No dependencies; runs where there is fetch.

const idempotentMethods = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);
const retriedStatuses = new Set([429, 502, 503, 504]);

/** A wait that ends early, with the signal's reason as error, when the signal says so. */
function wait(ms, signal) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
            signal?.removeEventListener('abort', stop);
            resolve();
        }, ms);
        function stop() {
            clearTimeout(timer);
            reject(signal.reason);
        }
        if (signal?.aborted) {
            stop();
        } else {
            signal?.addEventListener('abort', stop, { once: true });
        }
    });
}

/** A promise, or the signal's reason as error, whichever comes first. */
function orAborted(promise, signal) {
    if (!signal) {
        return promise;
    }
    const done = new AbortController();
    const aborted = new Promise((_, reject) => {
        const stop = () => reject(signal.reason);
        if (signal.aborted) {
            stop();
        } else {
            signal.addEventListener('abort', stop, { once: true, signal: done.signal });
        }
    });
    return Promise.race([promise, aborted]).finally(() => done.abort());
}

/** Retry-After in ms: seconds or a date (RFC 9110 section 10.2.3); 0 where there is none. */
export function retryAfterMs(response, now = Date.now()) {
    const value = response?.headers.get('retry-after') ?? '';
    if (/^[0-9]{1,9}$/.test(value)) {
        return Number(value) * 1000;
    }
    const date = Date.parse(value);
    return Number.isNaN(date) ? 0 : Math.max(0, date - now);
}

const isReplayable = (body) => body === undefined || body === null || typeof body === 'string' || body instanceof Uint8Array
    || body instanceof URLSearchParams;

export class ApikeyClient {
    #baseUrl;
    #token;
    #refresh;
    #onToken;
    #onError;
    #fetch;
    #attempts;
    #baseDelayMs;
    #maxDelayMs;
    #maxWaitMs;
    #refreshPauseMs;
    #random;
    #refreshing = null;
    #refreshNotBefore = 0;

    /**
     * refresh: async (token) → the new token; default: POST /token/refresh of the service. onToken(token): keep it, the old one will
     * be of no use soon; may be async, and no call waits for it. onError(error): told of errors of onToken and of refreshes that
     * failed, neither of which ends a call. attempts: how often a request is sent at most. maxWaitMs: whoever is told to wait longer
     * gets the answer instead. refreshPauseMs: after a refresh that failed, so long none is tried.
     */
    constructor({
        baseUrl, token, refresh, onToken = () => {}, onError = () => {}, fetch = globalThis.fetch, attempts = 4, baseDelayMs = 100,
        maxDelayMs = 5000, maxWaitMs = 60_000, refreshPauseMs = 60_000, random = Math.random,
    }) {
        this.#baseUrl = new URL(baseUrl);
        this.#token = token;
        this.#refresh = refresh ?? ((old) => this.#refreshAtService(old));
        this.#onToken = onToken;
        this.#onError = onError;
        // Not the function itself: called as a member it has the client as `this`, which fetch of browsers and Workers does not take.
        this.#fetch = (...request) => fetch(...request);
        this.#attempts = attempts;
        this.#baseDelayMs = baseDelayMs;
        this.#maxDelayMs = maxDelayMs;
        this.#maxWaitMs = maxWaitMs;
        this.#refreshPauseMs = refreshPauseMs;
        this.#random = random;
    }

    /**
     * Like fetch, with the token. Resolves with the last response, whatever its status; rejects when there is none, or with the
     * signal's reason. A redirect is an error, so that the token goes nowhere but to the service. Requests of idempotent methods are
     * sent again, others with {idempotent: true} only.
     */
    async fetch(path, { idempotent, signal, ...init } = {}) {
        const url = new URL(path, this.#baseUrl);
        if (url.origin !== this.#baseUrl.origin) {
            throw new TypeError('the token is for the service of baseUrl only');
        }
        const mayRepeat = (idempotent ?? idempotentMethods.has((init.method ?? 'GET').toUpperCase())) && isReplayable(init.body);
        for (let attempt = 1; ; attempt += 1) {
            // While the token is being refreshed, nothing is sent.
            await orAborted(this.#refreshing ?? Promise.resolve(), signal);
            const token = this.#token;
            const { response, error } = await this.#send(url, init, token, signal);
            // Another call may have refreshed the token while this one was under way. Refused is not done: any method may go again.
            const isOutdated = response?.status === 401 && isReplayable(init.body) && (await this.#hasChanged(token, signal));
            const delayMs = isOutdated ? 0 : this.#delayMs(response, attempt);
            const isFinal = response !== undefined && !isOutdated && !(mayRepeat && retriedStatuses.has(response.status));
            if (isFinal || attempt >= this.#attempts || delayMs > this.#maxWaitMs || (error !== undefined && !mayRepeat)) {
                if (error !== undefined) {
                    throw error;
                }
                return response;
            }
            await response?.body?.cancel();
            await wait(delayMs, signal);
        }
    }

    async #send(url, init, token, signal) {
        signal?.throwIfAborted();
        const headers = new Headers(init.headers);
        headers.set('authorization', `Bearer ${token}`);
        try {
            const response = await this.#fetch(url, { ...init, headers, signal, redirect: 'error' });
            if (response.headers.get('apikey-refresh-due') === '?1') {
                this.#startRefresh(token);
            }
            return { response };
        } catch (error) {
            signal?.throwIfAborted();
            return { error };
        }
    }

    async #hasChanged(token, signal) {
        await orAborted(this.#refreshing ?? Promise.resolve(), signal);
        return this.#token !== token;
    }

    /** Exponential backoff with full jitter, so that clients that failed together do not come back together. */
    #delayMs(response, attempt) {
        const backoff = this.#random() * Math.min(this.#maxDelayMs, this.#baseDelayMs * 2 ** (attempt - 1));
        return retryAfterMs(response) + backoff;
    }

    /** One refresh, however many calls are told that it is due. It never fails: then the token stays, as long as it is good. */
    #startRefresh(token) {
        if (this.#refreshing !== null || token !== this.#token || Date.now() < this.#refreshNotBefore) {
            return;
        }
        this.#refreshing = Promise.resolve()
            .then(() => this.#refresh(token))
            .then((next) => {
                if (typeof next !== 'string' || next === '') {
                    throw new Error('no token');
                }
                this.#token = next;
                this.#tell(this.#onToken, next);
            })
            .catch((error) => {
                this.#refreshNotBefore = Date.now() + this.#refreshPauseMs;
                this.#tell(this.#onError, error);
            })
            .finally(() => {
                this.#refreshing = null;
            });
    }

    /** A callback is the caller's. Whatever becomes of it, the token is refreshed, or is not. Never rejects. */
    async #tell(callback, value) {
        try {
            await callback(value);
        } catch (error) {
            // An error of onError has nobody left who could be told.
            if (callback !== this.#onError) {
                await this.#tell(this.#onError, error);
            }
        }
    }

    async #refreshAtService(token) {
        const response = await this.#fetch(new URL('/token/refresh', this.#baseUrl), {
            method: 'POST',
            headers: { authorization: `Bearer ${token}` },
            redirect: 'error',
            signal: AbortSignal.timeout(10_000),
        });
        const body = await response.json();
        return response.ok ? body.token : null;
    }
}
