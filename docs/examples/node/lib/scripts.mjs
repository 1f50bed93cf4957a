// The scripts of the Redis contract that this code is written for, by the SHA-1 of their text. The mirror worker of PostgreSQL loads
// them into Redis; a node calls them and needs no right to load any.

export const scripts = {
    check: 'b4f0330e8faed1e904f965781e33ded992517f62', // ak_check
    rate: '3e025e838c2c698d3662ed2f4209c536bf0dbed0', // ak_rate
};
