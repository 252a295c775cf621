// Scratch memory of requests: cut from an arena one behind the other, and all gone at once.
#include <stdio.h>
#include <string.h>

#include "tenzor.h"

int main(void) {
    tenzor_error error;
    tenzor_allocator *arena = tenzor_arena_create(1 << 20, NULL, &error);
    size_t letters = 0;
    for (int request = 0; request < 100; request++) {
        char *name = tenzor_alloc(arena, 32, &error);
        double *weights = tenzor_alloc_zeroed(arena, 10000 * sizeof(double), &error);
        if (name == NULL || weights == NULL) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        snprintf(name, 32, "request %d", request);
        letters += strlen(name) + (size_t)weights[9999];
        if (!tenzor_arena_reset(arena, &error)) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
    }
    tenzor_stats stats;
    tenzor_stats_of(arena, false, &stats);
    printf("%zu letters in %zu bytes\n", letters, stats.reserved_bytes);
    // An error says what stands in the way.
    if (tenzor_aligned_alloc(arena, 48, 100, &error) == NULL)
        printf("%s\n", error.message);
    bool ended = tenzor_allocator_destroy(arena, &error);
    return ended && stats.reserved_bytes == 1 << 20 ? 0 : 1;
}
