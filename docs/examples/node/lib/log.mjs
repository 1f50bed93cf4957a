// Log lines are JSON. Of an error only its name and where it came from: messages may quote what was read (JSON.parse does), and
// that may be a token.

// Anything can be thrown, also null.
export const describe = (error) => ({
    error: error?.code ?? error?.name ?? typeof error,
    at: String(error?.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)).map((line) => line.trim()).slice(0, 5),
});

export function writeLog(event, fields) {
    process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`);
}
