// An independent verifier: checks tokens with the npm package jose, from nothing but a JWKS. Reads {jwks, cases: [{token, options}]} from
// standard input, writes [{ok, header, claims} or {ok, error}], and for each key of the set its RFC 7638 thumbprint. APIKEY_NODE_MODULES
// is the directory that holds jose.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const jose = createRequire(`${process.env.APIKEY_NODE_MODULES}/`)('./jose');
const { jwks, cases } = JSON.parse(readFileSync(0, 'utf8'));
const keys = jose.createLocalJWKSet(jwks);

async function check({ token, options }) {
    try {
        if (options.currentDate) {
            options.currentDate = new Date(options.currentDate);
        }
        const { payload, protectedHeader } = await jose.jwtVerify(token, keys, options);
        return { ok: true, header: protectedHeader, claims: payload };
    } catch (error) {
        return { ok: false, error: error.code ?? String(error) };
    }
}

const results = await Promise.all(cases.map(check));
const thumbprints = await Promise.all(jwks.keys.map((key) => jose.calculateJwkThumbprint(key)));
process.stdout.write(JSON.stringify({ results, thumbprints }));
