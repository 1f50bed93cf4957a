// client.mjs MODE AT-ONCE SECONDS REDIS-SOCKET: verifies keys, so many at once, for so long, and prints {perSecond}. The server is the one
// that libpq's environment variables name; MODE is one of those below.

import { openApikey } from './apikey.mjs';
import { openBetterAuth } from './better_auth.mjs';
import { measure } from './measure.mjs';

const [mode, atOnce, seconds, redisSocket] = process.argv.slice(2);
const connections = Number(atOnce);

const openers = {
    check_token: () => openApikey({ connections, statement: 'SELECT apikey.check_token($1, $2) AS valid' }),
    select: () => openApikey({ connections, statement: "SELECT $1::text <> 'broken' AND $2::text <> '' AS valid" }),
    database: () => openBetterAuth({ connections, storage: 'database' }),
    database_unlimited: () => openBetterAuth({ connections, storage: 'database', limited: false }),
    redis: () => openBetterAuth({ connections, storage: 'redis', redisSocket }),
    memory: () => openBetterAuth({ connections, storage: 'memory' }),
};

const { keys, isValid, close } = await openers[mode]();
for (const key of keys) {
    if (!(await isValid(key))) {
        throw new Error('a good key is refused');
    }
}
if (await isValid('broken')) {
    throw new Error('a bad key is accepted');
}
const perSecond = await measure({ atOnce: connections, seconds: Number(seconds), keys, isValid });
process.stdout.write(JSON.stringify({ perSecond }));
await close();
