// What a pair of malloc and free takes: `pairs SIZE COUNT [THREADS]` prints nanoseconds, of the elapsed time divided by one thread's pairs. THREADS is a number, of
// threads that each have pairs of their own, or `handed`: one thread allocates, and hands what it has to another one, that frees it.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t size;
static long pairs;

static void *own(void *nothing) {
    for (long i = 0; i < pairs; i++) {
        void *volatile block = malloc(size);
        free(block);
    }
    return nothing;
}

// What is on its way: a ring, each end of which has a line of the cache. Who finds it full or empty lets others run.
enum { ROOM = 256 };
static void *ring[ROOM];
static _Alignas(64) atomic_long made;
static _Alignas(64) atomic_long taken;

static void *taker(void *nothing) {
    for (long i = 0; i < pairs; i++) {
        while (atomic_load_explicit(&made, memory_order_acquire) <= i)
            sched_yield();
        free(ring[i % ROOM]);
        atomic_store_explicit(&taken, i + 1, memory_order_release);
    }
    return nothing;
}

static void *maker(void *nothing) {
    for (long i = 0; i < pairs; i++) {
        void *block = malloc(size);
        while (i - atomic_load_explicit(&taken, memory_order_acquire) >= ROOM)
            sched_yield();
        ring[i % ROOM] = block;
        atomic_store_explicit(&made, i + 1, memory_order_release);
    }
    return nothing;
}

int main(int count, char **args) {
    if (count < 3 || count > 4)
        return 2;
    size = strtoul(args[1], NULL, 10);
    pairs = strtol(args[2], NULL, 10);
    int handed = count == 4 && !strcmp(args[3], "handed");
    int threads = count == 3 ? 1 : handed ? 2 : atoi(args[3]);
    if (threads < 1 || threads > 1024)
        return 2;
    pthread_t others[1024];
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 1; i < threads; i++)
        if (pthread_create(&others[i], NULL, handed ? taker : own, NULL))
            return 3;
    if (handed)
        maker(NULL);
    else
        own(NULL);
    for (int i = 1; i < threads; i++)
        pthread_join(others[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n", ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / (double)pairs);
    return 0;
}
