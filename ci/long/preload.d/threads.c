// Threads that allocate: `threads many N` has N of them at once, each with blocks of its own and of its neighbour's; `threads storm N` starts N in turns, that
// end at once; `threads forks N` forks two processes that fork N children each, while threads allocate in all of them.
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 40 };
static pthread_barrier_t barrier;
static unsigned char *(*blocks)[BLOCKS];
static atomic_int wrong, over;

static size_t size_of(uintptr_t thread, int i) { return 1 + (thread * 7919 + (size_t)i * i * 97) % (i % 8 ? 3000 : 90000); }

static void *one_of_many(void *number) {
    uintptr_t me = (uintptr_t)number;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < BLOCKS; i++) {
        if (!(blocks[me][i] = malloc(size_of(me, i))))
            wrong++;
        else
            memset(blocks[me][i], (int)me, size_of(me, i));
        if (i % 3 == 0)
            free(realloc(strdup("to be moved"), 50000));
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

// What another thread has filled.
static void *freeing(void *number) {
    uintptr_t me = (uintptr_t)number;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < BLOCKS; i++) {
        unsigned char *block = blocks[me][i];
        for (size_t k = 0; block && k < size_of(me, i); k++)
            if (block[k] != (unsigned char)me) {
                wrong++;
                break;
            }
        free(block);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void all(int count, void *(*run)(void *)) {
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], &small, run, (void *)(uintptr_t)i))
            exit(3);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

static void *brief(void *given) {
    free(given);
    char *left = malloc(3000);
    memset(left, 1, 3000);
    free(memset(calloc(2, 10000), 1, 20000));
    return left;
}

static void *busy(void *seed) {
    unsigned random = (unsigned)(uintptr_t)seed;
    while (!over) {
        random = random * 1664525u + 1013904223u;
        size_t size = 1 + (random >> 8) % 70000;
        char *block = malloc(size);
        if (!block)
            wrong++;
        else
            block[0] = block[size - 1] = 1;
        free(block);
    }
    return NULL;
}

static void forks(int count) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, busy, (void *)(i + 1));
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            pthread_t thread;
            void *left;
            if (pthread_create(&thread, NULL, brief, malloc(100)) || pthread_join(thread, &left))
                _exit(1);
            free(left);
            _exit(0);
        }
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            wrong++;
    }
    over = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

int main(int count, char **args) {
    int number = count == 3 ? atoi(args[2]) : 0;
    if (number && !strcmp(args[1], "many")) {
        blocks = calloc((size_t)number, sizeof *blocks);
        all(number, one_of_many);
        all(number, freeing);
        free(blocks);
    } else if (number && !strcmp(args[1], "storm")) {
        for (int i = 0; i < number / 8; i++) {
            pthread_t threads[8];
            for (int k = 0; k < 8; k++)
                if (pthread_create(&threads[k], NULL, brief, malloc(200)))
                    return 3;
            for (int k = 0; k < 8; k++) {
                void *left;
                pthread_join(threads[k], &left);
                free(left);
            }
        }
    } else if (number && !strcmp(args[1], "forks")) {
        pid_t other = fork();
        forks(number);
        int status = 0;
        if (other == 0)
            _exit(wrong ? 1 : 0);
        if (waitpid(other, &status, 0) != other || status)
            wrong++;
    } else {
        return 2;
    }
    printf("%d wrong\n", (int)wrong);
    return wrong ? 1 : 0;
}
