// The grant language: a permission is segment(:segment)*. In a grant, `*` as the last segment matches one or more segments,
// elsewhere exactly one; alone it grants all. The same rules as src/core/permission.cpp of the extension.

import { Undecided } from './undecided.mjs';

const segment = '[a-z0-9_.-]+';
const permissionPattern = new RegExp(`^${segment}(?::${segment})*$`);
const grantPattern = new RegExp(`^(?:${segment}|\\*)(?::(?:${segment}|\\*))*$`);
const maxLength = 256;
const maxGrants = 64;

export const isPermission = (text) => typeof text === 'string' && text.length <= maxLength && permissionPattern.test(text);

const isGrant = (text) => typeof text === 'string' && text.length <= maxLength && grantPattern.test(text);

/** A list of grants as the extension would have written it. */
export const isGrantList = (list) => Array.isArray(list) && list.length <= maxGrants && list.every(isGrant);

/** Both must be valid. */
export function grants(grant, permission) {
    const given = grant.split(':');
    const asked = permission.split(':');
    const fits = given.at(-1) === '*' ? asked.length >= given.length : asked.length === given.length;
    return fits && given.every((part, i) => part === '*' || part === asked[i]);
}

/**
 * Does role ∩ scope allow it? scope: the key's own narrowing, null when it has none. A permission of null asks for nothing.
 * What a node does not understand (an expression, a grant in a new notation) it leaves to PostgreSQL.
 */
export function isAllowed(permission, roleGrants, scope) {
    if (permission === null) {
        return true;
    }
    if (!isPermission(permission)) {
        throw new Undecided('permission_expression');
    }
    if (!isGrantList(roleGrants) || (scope !== null && !isGrantList(scope))) {
        throw new Undecided('grant_notation');
    }
    const among = (list) => list.some((grant) => grants(grant, permission));
    return among(roleGrants) && (scope === null || among(scope));
}
