// Log lines are JSON. Of a mistake in this program only its name and where it came from: messages may quote what was read (JSON.parse
// does), and that may be a token.

const token = /\b(?:ak_|eyJ)[\w.+/=-]+/g;
const longestMessage = 300;

/** What an error says, also one that is made of several (of each address of a host name, say) and says nothing itself. */
function messageOf(error) {
    const parts = Array.isArray(error?.errors) && error.errors.length > 0 ? error.errors.map(messageOf) : [String(error?.message ?? '')];
    return [...new Set(parts)].join('; ');
}

/**
 * Why a server could not be asked: {error, message}. What servers and drivers say of a connection and of a statement quotes none of
 * its parameters; and should one do so, what looks like a token is left out.
 */
export const reason = (error) => ({
    error: error?.code ?? error?.name ?? typeof error,
    message: messageOf(error).replace(token, '[token]').slice(0, longestMessage),
});

// Anything can be thrown, also null.
export const describe = (error) => ({
    error: error?.code ?? error?.name ?? typeof error,
    at: String(error?.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)).map((line) => line.trim()).slice(0, 5),
});

export function writeLog(event, fields) {
    process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`);
}
