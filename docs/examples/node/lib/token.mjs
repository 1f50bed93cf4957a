// From a token's text to what it claims, by nothing but the public keys. As strict as the extension: whatever it would not have
// written is no token.

import { errors, jwtVerify } from 'jose';

import { Undecided } from './undecided.mjs';

const maxLength = 8192;
const jwtBeginning = 'eyJ0eXAiOiJhcGlrZXkrand0'; // {"typ":"apikey+jwt in base64url
const headerPattern = /^\{"typ":"apikey\+jwt","alg":"([A-Za-z0-9]{1,16})","kid":"([A-Za-z0-9_-]{1,64})"\}$/;
const opaquePattern = /^ak_[a-z0-9]{1,16}_[0-9A-Za-z]{27}_[0-9A-Za-z]{49}$/;
const jtiPattern = /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.([1-9][0-9]{0,9})$/;
const knownClaims = new Set(['iss', 'sub', 'jti', 'iat', 'exp', 'role', 'aud', 'env', 'scope', 'nonce']);

const isText = (value) => typeof value === 'string' && value !== '';
const isTextOrAbsent = (value) => value === undefined || isText(value);

/** Base64url in the one way to write it: no padding, no blanks, no bits left over. */
function decode(part) {
    const bytes = Buffer.from(part, 'base64url');
    return bytes.toString('base64url') === part ? bytes : null;
}

/** {algorithm, kid} of a compact JWS that looks like ours, or null. */
function readHeader(token) {
    const parts = token.split('.');
    if (parts.length !== 3 || !parts.every((part) => part !== '' && decode(part) !== null)) {
        return null;
    }
    const [, algorithm, kid] = headerPattern.exec(decode(parts[0]).toString('latin1')) ?? [];
    return kid === undefined ? null : { algorithm, kid };
}

/** `<key id>.<generation>`, written in one way only: the text is what the mirror's members are compared with. */
export function readJti(jti) {
    const [, keyId, digits] = jtiPattern.exec(jti) ?? [];
    const generation = Number(digits);
    return keyId !== undefined && generation <= 2147483647 ? { keyId, generation } : null;
}

/** What the rest of the service needs of the claims, or null where the extension could not have written them. */
function readClaims(claims) {
    const id = isText(claims.jti) ? readJti(claims.jti) : null;
    const texts = isText(claims.sub) && isText(claims.role) && isTextOrAbsent(claims.env) && isTextOrAbsent(claims.scope);
    if (id === null || !texts || !Number.isSafeInteger(claims.exp)) {
        return null;
    }
    if (!Object.keys(claims).every((name) => knownClaims.has(name))) {
        // Signed with our key, by a newer extension: the claim may restrict what this code knows nothing of.
        throw new Undecided('unknown_claim');
    }
    return {
        ...id,
        owner: claims.sub,
        role: claims.role,
        environment: claims.env ?? null,
        scope: claims.scope === undefined ? null : claims.scope.split(' '),
        issuedAt: claims.iat,
        expiresAt: claims.exp,
    };
}

const codeOfError = new Map([
    ['ERR_JWT_EXPIRED', 'EXPIRED'],
    ['ERR_JWS_SIGNATURE_VERIFICATION_FAILED', 'SIGNATURE_INVALID'],
    ['ERR_JWT_CLAIM_VALIDATION_FAILED', 'MALFORMED'], // not our issuer, not for us
]);

export class Tokens {
    #jwks;
    #options;
    #audiences;

    constructor({ jwks, issuers, audiences }) {
        this.#jwks = jwks;
        this.#audiences = audiences;
        this.#options = {
            typ: 'apikey+jwt',
            issuer: issuers,
            requiredClaims: ['exp'],
            ...(audiences.length > 0 && { audience: audiences }),
        };
    }

    /**
     * What is said of a token before PostgreSQL is asked about it: false where its issuer or its audience would have it refused
     * whatever else is true. PostgreSQL looks at neither. Nothing is proven by this, so that it is good for refusing only.
     */
    mayBeForUs(token) {
        if (!token.startsWith(jwtBeginning)) {
            return true; // opaque: names neither
        }
        try {
            return readHeader(token) !== null && this.#isForUs(JSON.parse(decode(token.split('.')[1]).toString()));
        } catch {
            return false;
        }
    }

    // RFC 7519 section 4.1.3: who is not named by aud must refuse, and one who has no name is not. A token without aud is for
    // those who have none.
    #isForUs({ iss, aud }) {
        const isNamed = this.#audiences.length === 0 ? aud === undefined : [aud].flat().some((name) => this.#audiences.includes(name));
        return isNamed && this.#options.issuer.includes(iss);
    }

    /** {code: 'VALID', claims}, or {code} that says why not. Undecided where only PostgreSQL can tell. */
    async verify(token) {
        if (token.length > maxLength) {
            return { code: 'MALFORMED' };
        }
        if (opaquePattern.test(token)) {
            throw new Undecided('opaque');
        }
        const header = token.startsWith(jwtBeginning) ? readHeader(token) : null;
        if (header === null) {
            return { code: 'MALFORMED' };
        }
        // Of the header only the kid is used. A key that is not in the set may be one for HS256, which never is.
        const found = await this.#jwks.find(header.kid);
        if (found === null) {
            throw new Undecided('unknown_kid');
        }
        if (header.algorithm !== found.algorithm) {
            return { code: 'SIGNATURE_INVALID' };
        }
        return this.#verifyWith(found, token);
    }

    async #verifyWith({ key, algorithm }, token) {
        let payload;
        try {
            ({ payload } = await jwtVerify(token, key, { ...this.#options, algorithms: [algorithm] }));
        } catch (error) {
            if (error instanceof errors.JOSEError) {
                return { code: codeOfError.get(error.code) ?? 'MALFORMED' };
            }
            throw error;
        }
        if (!this.#isForUs(payload)) {
            return { code: 'MALFORMED' };
        }
        const claims = readClaims(payload);
        return claims === null ? { code: 'MALFORMED' } : { code: 'VALID', claims };
    }
}
