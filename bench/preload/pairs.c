// What a pair of malloc and free takes: `pairs SIZE COUNT` prints nanoseconds.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int count, char **args) {
    if (count != 3)
        return 2;
    size_t size = strtoul(args[1], NULL, 10);
    long pairs = strtol(args[2], NULL, 10);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < pairs; i++) {
        void *volatile block = malloc(size);
        free(block);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n", ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / (double)pairs);
    return 0;
}
