// Forks, threads, signals, and blocks that are handed over, at any moment. The first argument says which storm, the second how long. Prints what is wrong; the exit code says whether something is.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int over, wrong;

static void fail(const char *what) {
    if (atomic_fetch_add(&wrong, 1) < 10) {
        write(2, what, strlen(what));
        write(2, "\n", 1);
    }
}

static unsigned next(unsigned *state) { return *state = *state * 1664525u + 1013904223u; }

// Blocks of all sizes, each filled with a byte of its own.
enum { LIVE = 64 };
struct Blocks {
    unsigned char *at[LIVE];
    size_t size[LIVE];
    unsigned random;
};

static void turn(struct Blocks *blocks) {
    unsigned i = next(&blocks->random) >> 8 & (LIVE - 1);
    unsigned char **at = &blocks->at[i];
    size_t *size = &blocks->size[i];
    unsigned char byte = (uintptr_t)at >> 3;
    if (*at) {
        if ((*at)[0] != byte || (*at)[*size - 1] != byte)
            fail("a block has lost its contents");
        if (next(&blocks->random) >> 8 & 1) {
            free(*at);
            *at = NULL;
            return;
        }
    }
    size_t n = 1 + ((size_t)1 << (next(&blocks->random) >> 8) % 18) + (next(&blocks->random) >> 20);
    unsigned char *to = realloc(*at, n);
    if (!to) {
        fail("no memory");
        return;
    }
    *at = to;
    *size = n;
    to[0] = to[n - 1] = byte;
}

static void clear(struct Blocks *blocks) {
    for (int i = 0; i < LIVE; i++)
        free(blocks->at[i]), blocks->at[i] = NULL;
}

static void *blocks_thread(void *seed) {
    struct Blocks *blocks = calloc(1, sizeof *blocks);
    blocks->random = (unsigned)(uintptr_t)seed;
    while (!over)
        turn(blocks);
    clear(blocks);
    free(blocks);
    return NULL;
}

// Who has one of the C library's locks, and waits for memory.
static void *streams_thread(void *which) {
    while (!over)
        switch ((uintptr_t)which % 4) {
        case 0:
            fflush(NULL);
            break;
        case 1: {
            FILE *file = fopen("/etc/passwd", "r");
            char *line = NULL;
            size_t room = 0;
            while (file && getline(&line, &room, file) > 0)
                ;
            free(line);
            if (file)
                fclose(file);
            break;
        }
        case 2: {
            FILE *file = fopen("/dev/null", "w");
            if (file) {
                fprintf(file, "%d\n", 7);
                fclose(file);
            }
            break;
        }
        default:
            if (!getpwnam("root"))
                fail("root is not known");
        }
    return NULL;
}

static int child(void) {
    struct Blocks blocks = {.random = (unsigned)getpid()};
    for (int i = 0; i < 500; i++)
        turn(&blocks);
    clear(&blocks);
    FILE *file = fopen("/etc/passwd", "r");
    if (file)
        fclose(file);
    pthread_t thread;
    struct Blocks other = {.random = 1};
    turn(&other);
    if (pthread_create(&thread, NULL, blocks_thread, (void *)3))
        return 2;
    over = 1;
    pthread_join(thread, NULL);
    return wrong ? 1 : 0;
}

static void forks(int count) {
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(60);
            _exit(child());
        }
        if (pid < 0) {
            fail("fork failed");
            return;
        }
        int status = 0;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            fail(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "a child hangs" : "a child failed");
    }
}

// Blocks that one thread asks for, and another one measures, resizes and frees; who asks is a new thread every thousand blocks, that has none of the thread's before.
enum { ROOM = 4, EACH = 1000 };
struct Ring {
    unsigned char *at[ROOM];
    size_t size[ROOM];
    atomic_long made, taken;
    long total, next;
    unsigned random;
};

static void *taker(void *given) {
    struct Ring *ring = given;
    unsigned random = 7;
    for (long i = 0; i < ring->total; i++) {
        while (ring->made <= i)
            sched_yield();
        unsigned char *at = ring->at[i % ROOM], byte = i;
        size_t size = ring->size[i % ROOM], usable = malloc_usable_size(at);
        if (at[0] != byte || at[size / 2] != byte || at[size - 1] != byte)
            fail("a block that was handed over has lost its contents");
        // Nothing else lies in what is usable.
        if (usable < size || usable > 2 * size + 64)
            fail("a block that was handed over has another size");
        memset(at, byte + 1, usable);
        if (next(&random) >> 30 == 0)
            at = realloc(at, 1 + (next(&random) >> 8) % (2 * size));
        free(at);
        ring->taken = i + 1;
    }
    return NULL;
}

static void *maker(void *given) {
    struct Ring *ring = given;
    for (long end = ring->next + EACH; ring->next < end; ring->next++) {
        long i = ring->next;
        // Mostly of some pages.
        size_t size = 1 + (next(&ring->random) >> 8) % (i % 64 == 0 ? 1 << 21 : i % 4 == 0 ? 4000 : 60000);
        unsigned char *at = malloc(size);
        if (!at)
            fail("no memory");
        at[0] = at[size / 2] = at[size - 1] = i;
        while (i - ring->taken >= ROOM)
            sched_yield();
        ring->at[i % ROOM] = at;
        ring->size[i % ROOM] = size;
        ring->made = i + 1;
    }
    return NULL;
}

static void *pair(void *given) {
    struct Ring *ring = given;
    pthread_t takes, makes;
    pthread_create(&takes, NULL, taker, ring);
    while (ring->next < ring->total) {
        pthread_create(&makes, NULL, maker, ring);
        pthread_join(makes, NULL);
    }
    pthread_join(takes, NULL);
    return NULL;
}

static void handed(int count) {
    struct Ring rings[2] = {{.total = (long)count * EACH, .random = 1}, {.total = (long)count * EACH, .random = 2}};
    pthread_t some[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&some[i], NULL, pair, &rings[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(some[i], NULL);
}

// Threads that a child of a fork has not: the C library frees what it knows of them under a lock that whoever starts a thread takes, too.
static atomic_int up;
static void *stays(void *nothing) {
    free(malloc(100));
    up++;
    for (;;)
        pause();
    return nothing;
}

static void *nothing(void *given) { return given; }

static void bereft(int count) {
    enum { THREADS = 100, MIB = 1 << 20 };
    pthread_t some[THREADS], one;
    char *block = malloc(64 * MIB);
    memset(block, 1, 64 * MIB);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&some[i], NULL, stays, NULL))
            fail("no thread");
    while (up < THREADS)
        usleep(100);
    free(block);
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (pthread_create(&one, NULL, nothing, NULL))
                _exit(1);
            pthread_join(one, NULL);
            _exit(0);
        }
        // All its signals may be blocked.
        int status = 0, waited = 0;
        for (int k = 0; k < 60 * 1000 && !(waited = waitpid(pid, &status, WNOHANG)); k++)
            usleep(1000);
        if (waited != pid || status != 0) {
            fail("a child hangs, or failed");
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
        }
    }
}

// Threads that contend, so that the heap wants more addresses, and cannot have them: none of that is seen by who frees.
static void *box[16];
static void *swaps(void *seed) {
    unsigned random = (unsigned)(uintptr_t)seed;
    while (!over) {
        void *new = malloc(100000 + (next(&random) >> 12) % 900000);
        void *old = __atomic_exchange_n(&box[next(&random) >> 28], new, __ATOMIC_SEQ_CST);
        errno = 4711;
        free(old);
        if (errno != 4711)
            fail("free changed errno");
    }
    return NULL;
}

static void narrow(int milliseconds) {
    pthread_t some[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&some[i], NULL, swaps, (void *)(i + 1));
    usleep(1000);
    struct rlimit limit = {1 << 20, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
    usleep(1000 * milliseconds);
    over = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(some[i], NULL);
}

static pthread_key_t key;
static void at_the_end(void *value) {
    static _Thread_local int rounds;
    free(value);
    // A destructor that leaves something is called again, some times.
    if (rounds++ < 3)
        pthread_setspecific(key, malloc(1000));
}

static void *short_thread(void *given) {
    pthread_setspecific(key, malloc(100));
    free(given);
    return malloc(5000);
}

static void threads(int count) {
    pthread_key_create(&key, at_the_end);
    for (int i = 0; i < count; i++) {
        pthread_t some[16];
        for (int k = 0; k < 16; k++)
            if (pthread_create(&some[k], NULL, short_thread, malloc(100)))
                fail("no thread");
        for (int k = 0; k < 16; k++) {
            void *left;
            pthread_join(some[k], &left);
            free(left);
        }
    }
}

static atomic_int handled;
static void handler(int number) {
    (void)number;
    int before = errno;
    handled++;
    errno = before;
}

static void signals(int milliseconds) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &timer, NULL);
    pthread_t some[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&some[i], NULL, blocks_thread, (void *)(i + 1));
    for (int i = 0; i < milliseconds; i++)
        usleep(1000);
    over = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(some[i], NULL);
    if (handled < 10)
        fail("no signals came");
}

int main(int count, char **args) {
    int how_many = count > 2 ? atoi(args[2]) : 0;
    alarm(600);
    if (count > 2 && !strcmp(args[1], "forks")) {
        pthread_t some[8];
        for (uintptr_t i = 0; i < 8; i++)
            pthread_create(&some[i], NULL, i < 4 ? streams_thread : blocks_thread, (void *)i);
        forks(how_many);
        over = 1;
        for (int i = 0; i < 8; i++)
            pthread_join(some[i], NULL);
    } else if (count > 2 && !strcmp(args[1], "threads")) {
        threads(how_many);
    } else if (count > 2 && !strcmp(args[1], "bereft")) {
        bereft(how_many);
    } else if (count > 2 && !strcmp(args[1], "narrow")) {
        narrow(how_many);
    } else if (count > 2 && !strcmp(args[1], "handed")) {
        handed(how_many);
    } else if (count > 2 && !strcmp(args[1], "signals")) {
        signals(how_many);
    } else {
        return 99;
    }
    return wrong ? 1 : 0;
}
