// A small API behind API keys. Settings are environment variables: README.md.

import { readConfig } from './lib/config.mjs';
import { writeLog as log } from './lib/log.mjs';
import { createService } from './lib/start.mjs';

// What each route needs, what it costs, and what it does. strict: PostgreSQL decides, at the price of a round trip.
const routes = {
    'GET /v1/whoami': { handle: ({ principal }) => principal },
    'GET /v1/datasets': { permission: 'dataset:read', handle: () => ({ datasets: ['weather', 'tides'] }) },
    'POST /v1/chat': { permission: 'chat:write', cost: 5, handle: () => ({ reply: 'Hello.' }) },
    'POST /v1/node/restart': { permission: 'node:restart', strict: true, handle: () => ({ restarted: true }) },
};

const config = readConfig();
const { server, mirror, close } = createService({ config, routes, log });

// A moment for Redis; without it PostgreSQL answers.
await mirror.becomesUsable(1000);
const state = await mirror.state(config.maxStalenessMs);
server.listen(config.listen.port, config.listen.host, () => log('listening', { ...server.address(), mirror: state }));

// No new connections, the requests that are under way are answered, then the connections behind are closed.
let isStopping = false;
function stop(signal) {
    if (isStopping) {
        return;
    }
    isStopping = true;
    log('stopping', { signal });
    server.close(async () => {
        await close();
        log('stopped', {});
    });
    server.closeIdleConnections();
    setTimeout(() => process.exit(1), config.shutdownMs).unref();
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
