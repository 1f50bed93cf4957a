// Settings come from environment variables, and are checked at the start, so that a typing error is not found by a request.

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

const wholeNumber = (text) => (/^[0-9]{1,15}$/.test(text) ? Number(text) : undefined);
const positive = (text) => wholeNumber(text) || undefined;
const name = (text) => (/^[A-Za-z0-9_.-]{1,64}$/.test(text) ? text : undefined);
const list = (text) => text.split(',').map((item) => item.trim()).filter((item) => item !== '');
const flag = (text) => ({ on: true, off: false })[text];

/** redis://[user@]host[:port][/db], rediss://…, unix:///path/to/socket[?db=n], as the options of ioredis. */
export function redisEndpoint(text) {
    let url;
    try {
        url = new URL(text);
    } catch {
        return undefined;
    }
    // A password in a URL ends up in process lists and logs.
    if (url.password !== '') {
        return undefined;
    }
    if (url.protocol === 'unix:') {
        return { path: decodeURIComponent(url.pathname), db: Number(url.searchParams.get('db') ?? 0) };
    }
    if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') {
        return undefined;
    }
    const host = url.hostname.replace(/^\[|\]$/g, '');
    return {
        host,
        port: Number(url.port || 6379),
        db: Number(url.pathname.slice(1) || 0),
        ...(url.username !== '' && { username: decodeURIComponent(url.username) }),
        ...(url.protocol === 'rediss:' && { tls: { servername: host } }),
    };
}

function endpointToListen(text) {
    const [, bracketed, plain, port] = /^(?:(?:\[(.*)\]|(.*)):)?([0-9]{1,5})$/.exec(text) ?? [];
    return port === undefined || Number(port) > 65_535 ? undefined : { host: bracketed ?? plain ?? '127.0.0.1', port: Number(port) };
}

// What a setting is read with, and its default; no default: it must be given.
const settings = {
    listen: ['AK_LISTEN', endpointToListen, '127.0.0.1:8080'],
    forwardedHops: ['AK_FORWARDED_HOPS', wholeNumber, '0'],
    redis: ['AK_REDIS_URL', redisEndpoint, 'redis://127.0.0.1:6379'],
    redisUser: ['AK_REDIS_USER', (text) => text, ''],
    redisPasswordFile: ['AK_REDIS_PASSWORD_FILE', (text) => text, ''],
    redisRateUser: ['AK_REDIS_RATE_USER', (text) => text, ''],
    redisRatePasswordFile: ['AK_REDIS_RATE_PASSWORD_FILE', (text) => text, ''],
    redisTimeoutMs: ['AK_REDIS_TIMEOUT_MS', positive, '250'],
    pinServer: ['AK_PIN_SERVER', flag, 'on'],
    namespace: ['AK_NAMESPACE', name],
    rateNamespace: ['AK_RATE_NAMESPACE', name, ''],
    node: ['AK_NODE', name, hostname().replace(/[^A-Za-z0-9_.-]/g, '-').slice(0, 64)],
    maxStalenessMs: ['AK_MAX_STALENESS_MS', positive, '5000'],
    jwksRefreshMs: ['AK_JWKS_REFRESH_MS', positive, '5000'],
    jwksMaxAgeMs: ['AK_JWKS_MAX_AGE_MS', positive, '30000'],
    issuers: ['AK_ISSUER', list, 'apikey'],
    audiences: ['AK_AUDIENCE', list, ''],
    environments: ['AK_ENVIRONMENTS', list, ''],
    postgresConnections: ['AK_PG_CONNECTIONS', positive, '4'],
    postgresWaiting: ['AK_PG_WAITING', wholeNumber, '64'],
    postgresTimeoutMs: ['AK_PG_TIMEOUT_MS', positive, '1000'],
    shutdownMs: ['AK_SHUTDOWN_MS', positive, '10000'],
};

export function readConfig(environment = process.env) {
    const config = {};
    for (const [key, [variable, read, fallback]] of Object.entries(settings)) {
        const given = environment[variable] || fallback;
        if (given === undefined) {
            throw new Error(`${variable} must be set`);
        }
        // An empty default means "none"; what is not given needs no check.
        const value = given === '' && read === name ? '' : read(given);
        if (value === undefined) {
            throw new Error(`${variable} is not valid; see README.md for what it may be`);
        }
        config[key] = value;
    }
    config.rateNamespace ||= config.namespace;
    if (config.issuers.length === 0) {
        throw new Error('AK_ISSUER must name an issuer');
    }
    if (config.redisUser !== '') {
        config.redis.username = config.redisUser;
    }
    const passwordIn = (file) => file && readFileSync(file, 'utf8').trim();
    config.redisPassword = passwordIn(config.redisPasswordFile);
    config.redisCounter = config.redisRateUser === '' ? null : { user: config.redisRateUser, password: passwordIn(config.redisRatePasswordFile) };
    return config;
}
