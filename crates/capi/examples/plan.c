// Steps of training that repeat: after two of them a plan serves all requests from one block.
#include <stdio.h>
#include <stdlib.h>

#include "tenzor.h"

static void *some(tenzor_allocator *alloc, size_t size) {
    tenzor_error error;
    char *block = tenzor_alloc(alloc, size, &error);
    if (block == NULL) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    block[0] = block[size - 1] = 1;
    return block;
}

int main(void) {
    tenzor_error error;
    tenzor_allocator *planned = tenzor_planned_create(NULL, NULL, &error);
    for (int step = 0; step < 20; step++) {
        if (!tenzor_step_begin(planned, &error)) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        void *activations = some(planned, 4000000);
        void *hidden = some(planned, 1000000);
        void *gradients = some(planned, 4000000);
        tenzor_free(planned, activations, 4000000);
        void *update = some(planned, 3000000);
        tenzor_free(planned, hidden, 1000000);
        tenzor_free(planned, gradients, 4000000);
        tenzor_free(planned, update, 3000000);
        if (!tenzor_step_end(planned, &error)) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
    }
    tenzor_plan_stats stats;
    tenzor_plan_stats_of(planned, &stats);
    printf("%llu of %llu steps were followed, in a block of %zu bytes\n", (unsigned long long)stats.followed,
           (unsigned long long)stats.steps, stats.height);
    bool ended = tenzor_allocator_destroy(planned, &error);
    return ended && stats.followed >= 17 ? 0 : 1;
}
