/* Runs a fuzz entry without libFuzzer: first every seed, then mutants of the seeds for a number of
 * seconds. The mutants come from a fixed seed, so that a failure comes again; the time limit only
 * decides how many of them are run. What killed the entry is left in a file.
 *
 *   fuzz_NAME [--seconds N] [--seed N] [FILE|FOLDER...]
 *
 * A file given alone is run once with --seconds 0: this is how a finding is looked at. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 16, SEEDS_MAX = 4096, HANG_SECONDS = 20 };

typedef struct input {
    uint8_t *data;
    size_t bytes;
} input;

static struct {
    input seeds[SEEDS_MAX];
    int seed_count;
    uint8_t mutant[INPUT_MAX];
    const uint8_t *running; /* what a signal handler saves */
    size_t running_bytes;
    char crash_name[256];
    uint64_t random;
} g;

static uint64_t next_random(void) { /* xorshift64*, Vigna 2016 */
    g.random ^= g.random >> 12;
    g.random ^= g.random << 25;
    g.random ^= g.random >> 27;
    return g.random * 0x2545f4914f6cdd1du;
}

static size_t below(size_t limit) {
    return limit == 0 ? 0 : (size_t)(next_random() % limit);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Only calls that a signal handler may make. */
static void save_crash(void) {
    static const char text[] = "\nfuzz: the input that did it is in ";
    if (g.running == NULL) return;
    int fd = open(g.crash_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return;
    for (size_t done = 0; done < g.running_bytes;) {
        ssize_t wrote = write(fd, g.running + done, g.running_bytes - done);
        if (wrote <= 0) break;
        done += (size_t)wrote;
    }
    close(fd);
    ssize_t told = write(STDERR_FILENO, text, sizeof text - 1);
    told += write(STDERR_FILENO, g.crash_name, strlen(g.crash_name));
    told += write(STDERR_FILENO, "\n", 1);
    (void)told;
}

static void on_signal(int number) {
    save_crash();
    signal(number, SIG_DFL);
    raise(number);
}

/* The sanitizers end the process themselves; they call this before. Without them nobody does. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* libfyaml 0.7.12 loses a few tokens of some texts that it refuses. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libfyaml.so\n";
}

static void run(const uint8_t *data, size_t bytes) {
    g.running_bytes = bytes;
    g.running = data;
    alarm(HANG_SECONDS);
    LLVMFuzzerTestOneInput(data, bytes);
    alarm(0);
    g.running = NULL;
}

static int add_file(const char *path) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        fprintf(stderr, "fuzz: %s: %s\n", path, strerror(errno));
        if (fd >= 0) close(fd);
        return 1;
    }
    int status = 0;
    if (S_ISREG(info.st_mode) && info.st_size <= INPUT_MAX && g.seed_count < SEEDS_MAX) {
        input *seed = &g.seeds[g.seed_count];
        seed->bytes = (size_t)info.st_size;
        seed->data = malloc(seed->bytes + 1);
        status = seed->data == NULL || read(fd, seed->data, seed->bytes) != (ssize_t)seed->bytes;
        if (status == 0) g.seed_count++;
    }
    close(fd);
    return status;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_path(const char *path) {
    struct stat info;
    struct dirent **names = NULL;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return add_file(path);
    int count = scandir(path, &names, NULL, by_name), status = count < 0;
    for (int i = 0; i < count; i++) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.') status |= add_file(inner);
        free(names[i]);
    }
    free(names);
    return status;
}

static void put_integer(uint8_t *data, size_t bytes) {
    static const uint64_t interesting[] = {
        0,      1,         2,          0x7f,       0x80,        0xff,
        0x7fff, 0x8000,    0xffff,     0x7fffffff, 0x80000000u, 0xffffffffu,
        4096,   INT64_MAX, 1ull << 63, UINT64_MAX, 0x100000000, 1ull << 40};
    uint64_t value = interesting[below(sizeof interesting / sizeof interesting[0])];
    size_t width = (size_t)1 << below(4);
    if (width > bytes) return;
    size_t at = below(bytes - width + 1);
    /* Little-endian half of the time, big-endian the other half. */
    if (next_random() & 1) value = __builtin_bswap64(value) >> (64 - 8 * width);
    for (size_t i = 0; i < width; i++) data[at + i] = (uint8_t)(value >> (8 * i));
}

/* Takes a piece of some seed into the mutant, over or between its bytes. */
static size_t splice_in(uint8_t *data, size_t bytes) {
    const input *other = &g.seeds[below((size_t)g.seed_count)];
    size_t from = below(other->bytes), length = below(other->bytes - from + 1);
    size_t at = below(bytes + 1);
    if (next_random() & 1) { /* between */
        if (length > INPUT_MAX - bytes) length = INPUT_MAX - bytes;
        memmove(data + at + length, data + at, bytes - at);
        bytes += length;
    } else {
        if (length > INPUT_MAX - at) length = INPUT_MAX - at;
        if (at + length > bytes) bytes = at + length;
    }
    memcpy(data + at, other->data + from, length);
    return bytes;
}

static size_t cut_out(uint8_t *data, size_t bytes) {
    size_t at = below(bytes), length = below(bytes - at + 1);
    memmove(data + at, data + at + length, bytes - at - length);
    return bytes - length;
}

/* Repeats a piece, often: deep nesting and long runs come from here. */
static size_t repeat_piece(uint8_t *data, size_t bytes) {
    size_t at = below(bytes), length = 1 + below(bytes - at < 8 ? bytes - at : 8);
    size_t times = (size_t)1 << below(10);
    for (; times > 0 && at + length <= bytes && bytes + length <= INPUT_MAX; times--) {
        memmove(data + at + length, data + at, bytes - at);
        bytes += length;
    }
    return bytes;
}

static size_t mutate_once(uint8_t *data, size_t bytes) {
    static const char marks[] = "{}[]\"\\:,-#&*!|>%@`'\n\r\t 0919.eE+~nulltrue<>";
    if (bytes == 0) return splice_in(data, bytes);
    switch (below(9)) {
    case 0: data[below(bytes)] ^= (uint8_t)(1 << below(8)); return bytes;
    case 1: data[below(bytes)] = (uint8_t)next_random(); return bytes;
    case 2: return below(bytes);
    case 3: return cut_out(data, bytes);
    case 4: put_integer(data, bytes); return bytes;
    case 5: return repeat_piece(data, bytes);
    case 6: data[below(bytes)] = (uint8_t)marks[below(sizeof marks - 1)]; return bytes;
    default: return splice_in(data, bytes);
    }
}

static size_t make_mutant(void) {
    const input *seed = &g.seeds[below((size_t)g.seed_count)];
    size_t bytes = seed->bytes;
    memcpy(g.mutant, seed->data, bytes);
    for (size_t times = 1 + below(8); times > 0; times--) bytes = mutate_once(g.mutant, bytes);
    return bytes;
}

static void watch(const char *program) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
    const char *slash = strrchr(program, '/');
    snprintf(g.crash_name, sizeof g.crash_name, "crash-%s", slash != NULL ? slash + 1 : program);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) signal(signals[i], on_signal);
    if (__sanitizer_set_death_callback != NULL) __sanitizer_set_death_callback(save_crash);
}

static int usage(void) {
    fprintf(stderr, "usage: fuzz_NAME [--seconds N] [--seed N] [FILE|FOLDER...]\n");
    return 2;
}

int main(int argc, char **argv) {
    double seconds = 0;
    g.random = 0x9e3779b97f4a7c15u;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            g.random ^= strtoull(argv[++i], NULL, 10) * 0xbf58476d1ce4e5b9u;
        else if (argv[i][0] == '-' || add_path(argv[i]) != 0)
            return usage();
    }
    watch(argv[0]);
    for (int i = 0; i < g.seed_count; i++) run(g.seeds[i].data, g.seeds[i].bytes);
    if (g.seed_count == 0) { /* Nothing to begin with: the empty input is. */
        g.seeds[0].data = calloc(1, 1);
        if (g.seeds[0].data == NULL) return 1;
        g.seed_count = 1;
        run(g.seeds[0].data, 0);
    }
    double start = now_s();
    long long count = 0;
    for (; now_s() - start < seconds; count++) run(g.mutant, make_mutant());
    double took = now_s() - start;
    printf("%d seeds, %lld mutants in %.1f s, %.0f a second\n", g.seed_count, count, took,
           took > 0 ? (double)count / took : 0.0);
    for (int i = 0; i < g.seed_count; i++) free(g.seeds[i].data);
    return 0;
}
