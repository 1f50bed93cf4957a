// The extension from node-postgres: one prepared statement on a pool of connections.

import pg from 'pg';

export async function openApikey({ connections, statement }) {
    const pool = new pg.Pool({ max: connections, database: 'bench' });
    const { rows } = await pool.query("SELECT token FROM bench.token WHERE kind = 'jwt' AND n <= 64");
    return {
        keys: rows.map((row) => row.token),
        isValid: async (token) => {
            const answer = await pool.query({ name: 'check', text: statement, values: [token, 'chat:read'] });
            return answer.rows[0].valid;
        },
        close: () => pool.end(),
    };
}
