// Layers of a small network on buffers of a pool, within a budget: after the first pass no request reaches the heap.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tenzor.h"

enum { WIDTH = 256, LAYERS = 4, PASSES = 10 };

static float *buffer(tenzor_allocator *pool, size_t count) {
    tenzor_error error;
    float *values = tenzor_alloc(pool, count * sizeof(float), &error);
    if (values == NULL) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return values;
}

int main(void) {
    tenzor_error error;
    tenzor_budget *budget = tenzor_budget_create("inference", 64 << 20, NULL, &error);
    if (budget == NULL) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    tenzor_allocator *pool = tenzor_pool_create(NULL, budget, &error);
    float sum = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        float *values = buffer(pool, WIDTH);
        for (int i = 0; i < WIDTH; i++)
            values[i] = (float)i / WIDTH;
        for (int layer = 0; layer < LAYERS; layer++) {
            float *next = buffer(pool, WIDTH);
            for (int i = 0; i < WIDTH; i++)
                next[i] = tanhf(values[i] + 0.5f * values[(i + 1) % WIDTH]);
            tenzor_free(pool, values, WIDTH * sizeof(float));
            values = next;
        }
        sum += values[0];
        tenzor_free(pool, values, WIDTH * sizeof(float));
    }
    tenzor_stats stats;
    tenzor_stats_of(pool, false, &stats);
    printf("%.3f; %llu requests, %llu of them reached the heap\n", (double)sum, (unsigned long long)stats.allocations,
           (unsigned long long)stats.pool_misses);
    // What is in use stays: the mistake is told, and nothing is lost.
    float *forgotten = buffer(pool, 10);
    if (!tenzor_allocator_destroy(pool, &error))
        printf("%s\n", error.message);
    tenzor_free(pool, forgotten, 10 * sizeof(float));
    bool ended = tenzor_allocator_destroy(pool, &error);
    tenzor_budget_destroy(budget);
    return ended && stats.pool_misses == 2 ? 0 : 1;
}
