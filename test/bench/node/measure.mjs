// So many loops at once, each of which asks again as soon as it has its answer. Returns answers per second.
export async function measure({ atOnce, seconds, keys, isValid }) {
    const begun = performance.now();
    const end = begun + seconds * 1000;
    let answers = 0;
    let next = 0;
    const loop = async () => {
        while (performance.now() < end) {
            next = (next + 1) % keys.length;
            if (!(await isValid(keys[next]))) {
                throw new Error('a good key is refused');
            }
            answers += 1;
        }
    };
    await Promise.all(Array.from({ length: atOnce }, loop));
    return (answers * 1000) / (performance.now() - begun);
}
