// For a system that refuses calls: goes on with what it has, checks that blocks keep their contents, and says `fine` at the end. It ends with 3 where
// something was lost, and with 4 where what was returned by `calloc` is not zero.
#include <malloc.h>
#include <signal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIVE = 48 };
struct Blocks {
    unsigned char *at[LIVE];
    size_t size[LIVE];
    unsigned random;
};

static unsigned next(struct Blocks *blocks) { return (blocks->random = blocks->random * 1664525u + 1013904223u) >> 8; }

static void checked(unsigned char *at, size_t size, unsigned char byte) {
    for (size_t i = 0; i < size; i += i + 509 < size ? 509 : size - i == 1 ? 1 : size - 1 - i)
        if (at[i] != byte)
            _exit(3);
}

static void turns(struct Blocks *blocks, int count) {
    for (int turn = 0; turn < count; turn++) {
        unsigned i = next(blocks) % LIVE;
        unsigned char *at = blocks->at[i], byte = (unsigned char)(i + 1);
        size_t old = blocks->size[i];
        if (at)
            checked(at, old, byte);
        size_t size = 1 + (next(blocks) & 0xfff) + ((size_t)1 << next(blocks) % 23);
        switch (next(blocks) % 4) {
        case 0:
            free(at);
            blocks->at[i] = NULL;
            break;
        case 1:
            free(at);
            if ((blocks->at[i] = calloc(1, size))) {
                for (size_t k = 0; k < size; k += 97)
                    if (blocks->at[i][k])
                        _exit(4);
                memset(blocks->at[i], byte, blocks->size[i] = size);
            }
            break;
        default: {
            unsigned char *moved = realloc(at, size);
            if (moved) {
                if (at)
                    checked(moved, old < size ? old : size, byte);
                memset(blocks->at[i] = moved, byte, blocks->size[i] = size);
            }
        }
        }
        if (turn % 100 == 99)
            malloc_trim(0);
    }
}

static void clear(struct Blocks *blocks) {
    for (int i = 0; i < LIVE; i++) {
        if (blocks->at[i])
            checked(blocks->at[i], blocks->size[i], (unsigned char)(i + 1));
        free(blocks->at[i]);
    }
}

static void *thread(void *nothing) {
    struct Blocks mine = {.random = 2};
    turns(&mine, 150);
    clear(&mine);
    return nothing;
}

int main(void) {
    struct Blocks mine = {.random = 1};
    pthread_t other;
    turns(&mine, 150);
    int has_other = !pthread_create(&other, NULL, thread, NULL);
    turns(&mine, 150);
    pid_t child = fork();
    if (child == 0) {
        turns(&mine, 60);
        clear(&mine);
        _exit(0);
    }
    int status = 0;
    if (child > 0)
        waitpid(child, &status, 0);
    if (has_other)
        pthread_join(other, NULL);
    turns(&mine, 150);
    clear(&mine);
    // Its own end is told as the parent's.
    if (WIFSIGNALED(status))
        raise(WTERMSIG(status));
    if (status)
        return WEXITSTATUS(status);
    puts("fine");
    return 0;
}
