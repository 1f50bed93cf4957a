// What somebody can do who has the master key and a dump: unseals a signing key, and signs claims with it. Shares no code with the
// extension. Reads {master, kid, algorithm, public, sealed, claims: [text]} from standard input (binary values in hex), writes an array of
// tokens.

import { createDecipheriv, createHmac, createPrivateKey, hkdfSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

const request = JSON.parse(readFileSync(0, 'utf8'));
const bytes = (hex) => Buffer.from(hex, 'hex');

function unseal({ master, kid, algorithm, sealed }) {
    const key = Buffer.from(hkdfSync('sha256', bytes(master), Buffer.alloc(0), 'apikey/1 sealing', 32));
    const box = bytes(sealed);
    const decipher = createDecipheriv('aes-256-gcm', key, box.subarray(0, 12));
    decipher.setAAD(Buffer.from(`${kid}.${algorithm}`));
    decipher.setAuthTag(box.subarray(-16));
    return Buffer.concat([decipher.update(box.subarray(12, -16)), decipher.final()]);
}

function signer({ algorithm, public: publicHex }, secret) {
    if (algorithm === 'HS256') {
        return (input) => createHmac('sha256', secret).update(input).digest();
    }
    const d = secret.toString('base64url');
    const point = bytes(publicHex);
    if (algorithm === 'EdDSA') {
        const key = createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', d, x: point.toString('base64url') }, format: 'jwk' });
        return (input) => sign(null, input, key);
    }
    const coordinates = { x: point.subarray(1, 33).toString('base64url'), y: point.subarray(33).toString('base64url') };
    const key = createPrivateKey({ key: { kty: 'EC', crv: 'P-256', d, ...coordinates }, format: 'jwk' });
    return (input) => sign('sha256', input, { key, dsaEncoding: 'ieee-p1363' });
}

const signature = signer(request, unseal(request));
const header = Buffer.from(`{"typ":"apikey+jwt","alg":"${request.algorithm}","kid":"${request.kid}"}`).toString('base64url');
const tokens = request.claims.map((claims) => {
    const input = `${header}.${Buffer.from(claims).toString('base64url')}`;
    return `${input}.${signature(Buffer.from(input)).toString('base64url')}`;
});
process.stdout.write(JSON.stringify(tokens));
