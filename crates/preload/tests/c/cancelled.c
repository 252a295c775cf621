// `malloc` and `free` are no cancellation points: threads that were cancelled, and call nothing else, come to their end. With contention, and at a limit.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 16, LIVE = 64 };
static int done[THREADS];

static void *run(void *number) {
    uintptr_t me = (uintptr_t)number;
    unsigned random = (unsigned)me;
    void *blocks[LIVE] = {0};
    pthread_cancel(pthread_self());
    for (int i = 0; i < 50000; i++) {
        random = random * 1664525u + 1013904223u;
        int k = (random >> 8) % LIVE;
        free(blocks[k]);
        blocks[k] = malloc(70000 + (random >> 8) % 400000);
    }
    for (int i = 0; i < LIVE; i++)
        free(blocks[i]);
    done[me] = 1;
    return NULL;
}

int main(void) {
    int all = 0;
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, run, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        all += done[i];
    }
    printf("%d of %d\n", all, THREADS);
    return all != THREADS;
}
