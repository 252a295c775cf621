// What the header promises, by itself and beside libtenzor-malloc.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tenzor.h"

#define MUST(what) ((what) ? (void)0 : (printf("line %d: %s\n", __LINE__, #what), exit(1)))

static const size_t MIB = 1 << 20;

static void errors_say_why(void) {
    tenzor_error error;
    tenzor_pool_config config = tenzor_pool_config_default();
    config.limit = MIB;
    tenzor_allocator *pool = tenzor_pool_create(&config, NULL, &error);
    void *kept = tenzor_alloc(pool, MIB / 2 + 1, &error);
    MUST(kept != NULL);
    MUST(tenzor_alloc(pool, MIB / 2, &error) == NULL && error.kind == TENZOR_OVER_LIMIT);
    MUST(error.requested == MIB / 2 && error.alignment == TENZOR_ALIGNMENT && error.limit == MIB && error.in_use > MIB / 2);
    MUST(strstr(error.message, "over the limit of 1 MiB") != NULL);
    MUST(tenzor_alloc(pool, 2 * MIB, &error) == NULL && error.kind == TENZOR_NEVER_FITS);
    MUST(tenzor_alloc(pool, SIZE_MAX, &error) == NULL && error.kind == TENZOR_NEVER_FITS && error.requested == SIZE_MAX);
    MUST(tenzor_aligned_alloc(pool, 3, 1, &error) == NULL && error.kind == TENZOR_NEVER_FITS && error.limit == SIZE_MAX);
    MUST(error.alignment == 3 && strstr(error.message, "power of two") != NULL);
    MUST(tenzor_alloc(NULL, 1, &error) == NULL && error.kind == TENZOR_INVALID);
    MUST(tenzor_alloc(NULL, 1, NULL) == NULL);
    MUST(tenzor_resize(pool, kept, MIB / 2 + 1, 3 * MIB, &error) == NULL);
    MUST(!tenzor_allocator_destroy(pool, &error) && error.kind == TENZOR_IN_USE && strstr(error.message, "1 block") != NULL);
    MUST(!tenzor_arena_reset(pool, &error) && error.kind == TENZOR_INVALID && !tenzor_step_begin(pool, NULL));
    tenzor_free(pool, kept, MIB / 2 + 1);
    MUST(tenzor_allocator_destroy(pool, &error) && tenzor_allocator_destroy(NULL, &error));
    MUST(!tenzor_allocator_destroy(tenzor_heap(), &error) && error.kind == TENZOR_INVALID);
    // A message that is longer than its place ends at a whole character.
    tenzor_budget *budget = tenzor_budget_create("\xc3\xa4\xc3\xb6\xc3\xbc \xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac", 10, NULL, &error);
    pool = tenzor_pool_create(NULL, budget, &error);
    MUST(tenzor_alloc(pool, 100, &error) == NULL && error.kind == TENZOR_NEVER_FITS && strlen(error.message) < TENZOR_MESSAGE);
    MUST(tenzor_budget_create(NULL, 1, NULL, &error) == NULL && tenzor_budget_create("\xff", 1, NULL, &error) == NULL);
    MUST(tenzor_allocator_destroy(pool, NULL));
    tenzor_budget_destroy(budget);
    tenzor_budget_destroy(NULL);
}

// Random requests of an allocator against what was written there.
static void blocks_hold(tenzor_allocator *alloc, unsigned seed, int rounds) {
    enum { SLOTS = 50 };
    struct { unsigned char *at; size_t size, align; } slots[SLOTS] = {0};
    for (int round = 0; round < rounds; round++) {
        int slot = rand_r(&seed) % SLOTS;
        size_t size = rand_r(&seed) % (rand_r(&seed) % 8 == 0 ? 300000 : 3000);
        unsigned char *at = slots[slot].at, fill = (unsigned char)(slot + 1);
        size_t old = slots[slot].size, align = slots[slot].align;
        if (at != NULL && rand_r(&seed) % 3 == 0) {
            unsigned char *moved = tenzor_aligned_resize(alloc, at, align, old, size, NULL);
            MUST(moved != NULL && (uintptr_t)moved % align == 0);
            for (size_t i = 0; i < (old < size ? old : size); i++)
                MUST(moved[i] == fill);
            memset(moved, fill, size);
            slots[slot].at = moved, slots[slot].size = size;
        } else if (at != NULL) {
            for (size_t i = 0; i < old; i++)
                MUST(at[i] == fill);
            tenzor_aligned_free(alloc, at, align, old);
            slots[slot].at = NULL;
        } else {
            align = (size_t)1 << rand_r(&seed) % 14;
            int zeroed = rand_r(&seed) % 2;
            at = zeroed ? tenzor_aligned_alloc_zeroed(alloc, align, size, NULL) : tenzor_aligned_alloc(alloc, align, size, NULL);
            MUST(at != NULL && (uintptr_t)at % align == 0);
            for (size_t i = 0; zeroed && i < size; i++)
                MUST(at[i] == 0);
            memset(at, fill, size);
            slots[slot].at = at, slots[slot].size = size, slots[slot].align = align;
        }
    }
    for (int slot = 0; slot < SLOTS; slot++)
        if (slots[slot].at != NULL)
            tenzor_aligned_free(alloc, slots[slot].at, slots[slot].align, slots[slot].size);
}

static void *many(void *alloc) {
    blocks_hold(alloc, (unsigned)(uintptr_t)pthread_self(), 5000);
    return NULL;
}

static void every_kind_holds(void) {
    tenzor_error error;
    tenzor_budget *parent = tenzor_budget_create("parent", 512 * MIB, NULL, &error);
    tenzor_budget *budget = tenzor_budget_create("child", SIZE_MAX, parent, &error);
    tenzor_allocator *kinds[] = {tenzor_heap(), tenzor_pool_create(NULL, NULL, NULL), tenzor_pool_create(NULL, budget, &error),
                                 tenzor_arena_create(0, budget, NULL), tenzor_planned_create(NULL, budget, NULL)};
    for (int i = 0; i < 5; i++) {
        blocks_hold(kinds[i], 7 + i, 20000);
        if (i < 3) {
            pthread_t threads[3];
            for (int t = 0; t < 3; t++)
                MUST(pthread_create(&threads[t], NULL, many, kinds[i]) == 0);
            for (int t = 0; t < 3; t++)
                pthread_join(threads[t], NULL);
        }
        char text[4000];
        size_t bytes = tenzor_stats_json(kinds[i], text, sizeof text);
        MUST(bytes > 100 && bytes < sizeof text && text[0] == '{' && text[bytes - 1] == '}' && text[bytes] == 0);
        MUST(tenzor_stats_json(kinds[i], text, 10) >= 100 && strlen(text) == 9);
        MUST(tenzor_stats_json(kinds[i], NULL, 0) >= 100);
        tenzor_stats stats;
        MUST(tenzor_stats_of(kinds[i], true, &stats));
        MUST(stats.reserved_bytes == stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes);
        tenzor_trim(kinds[i], 0);
    }
    MUST(tenzor_arena_reset(kinds[3], &error) && tenzor_arena_shrink(kinds[3], 0, &error) > 0);
    // The heap stays.
    for (int i = 1; i < 5; i++)
        MUST(tenzor_allocator_destroy(kinds[i], &error));
    tenzor_budget_usage usage;
    MUST(tenzor_budget_usage_of(parent, false, &usage) && usage.granted == 0 && usage.peak_granted > 0 && usage.limit == 512 * MIB);
    tenzor_budget_destroy(parent);
    tenzor_budget_destroy(budget);
}

struct cache { tenzor_allocator *pool; void *block; int asked; };

static bool spill(void *context, size_t missing) {
    struct cache *cache = context;
    MUST(missing > 0);
    cache->asked++;
    if (cache->block == NULL)
        return false;
    tenzor_free(cache->pool, cache->block, 3 * MIB);
    cache->block = NULL;
    return true;
}

static void pressure_is_told(void) {
    tenzor_budget *budget = tenzor_budget_create("cache", 4 * MIB, NULL, NULL);
    struct cache cache = {tenzor_pool_create(NULL, budget, NULL), NULL, 0};
    cache.block = tenzor_alloc(cache.pool, 3 * MIB, NULL);
    MUST(tenzor_budget_on_pressure(budget, spill, &cache));
    void *block = tenzor_alloc(cache.pool, 2 * MIB, NULL);
    MUST(block != NULL && cache.asked == 1);
    tenzor_free(cache.pool, block, 2 * MIB);
    // What a pool keeps gives way to another allocator of the budget.
    tenzor_allocator *arena = tenzor_arena_create(0, budget, NULL);
    MUST(tenzor_alloc(arena, 3 * MIB, NULL) != NULL && cache.asked == 1);
    MUST(tenzor_budget_set_limit(budget, MIB) && tenzor_budget_trim(budget) == 0);
    MUST(tenzor_budget_on_pressure(budget, NULL, NULL));
    MUST(tenzor_allocator_destroy(cache.pool, NULL) && tenzor_allocator_destroy(arena, NULL));
    tenzor_budget_destroy(budget);
}

static bool refuse(void *context, size_t size, size_t alignment) {
    MUST(size > 0 && alignment > 0);
    ++*(int *)context;
    return false;
}

// The heap is one: what malloc has counts, and what pools keep gives way to it.
static void the_heap_is_one(void) {
    tenzor_stats before, after;
    tenzor_stats_of(tenzor_heap(), false, &before);
    void *volatile block = malloc(50 * MIB);
    tenzor_stats_of(tenzor_heap(), false, &after);
    free(block);
    MUST((after.bytes_in_use >= before.bytes_in_use + 50 * MIB) == tenzor_is_malloc());
    int asked = 0;
    tenzor_heap_config config = tenzor_heap_config_unchanged();
    tenzor_heap_on_refusal(refuse, &asked);
    config.limit = after.bytes_in_use_rounded + 100 * MIB;
    MUST(tenzor_heap_configure(&config, NULL) && tenzor_heap_limit() == config.limit);
    tenzor_error error;
    tenzor_pool_config large = tenzor_pool_config_default();
    large.max_pool_size = 1000 * MIB;
    tenzor_allocator *pool = tenzor_pool_create(&large, NULL, &error);
    void *kept[3];
    for (int i = 0; i < 3; i++)
        kept[i] = tenzor_alloc(pool, 20 * MIB + (size_t)i, &error);
    for (int i = 0; i < 3; i++)
        tenzor_free(pool, kept[i], 20 * MIB + (size_t)i);
    block = tenzor_is_malloc() ? malloc(90 * MIB) : tenzor_alloc(tenzor_heap(), 90 * MIB, &error);
    MUST(block != NULL && asked == 0);
    MUST(tenzor_alloc(pool, 90 * MIB, &error) == NULL && error.kind == TENZOR_OVER_LIMIT && asked > 0);
    MUST(error.limit == config.limit && strstr(error.message, "limit of") != NULL);
    if (tenzor_is_malloc())
        free(block);
    else
        tenzor_free(tenzor_heap(), block, 90 * MIB);
    config.limit = SIZE_MAX;
    MUST(tenzor_heap_configure(&config, NULL) && tenzor_heap_limit() == SIZE_MAX);
    config.huge_pages = 7;
    MUST(!tenzor_heap_configure(&config, &error) && error.kind == TENZOR_INVALID && !tenzor_heap_configure(NULL, NULL));
    tenzor_heap_on_refusal(NULL, NULL);
    char text[10];
    MUST(tenzor_heap_report(text, sizeof text) > 100 && strlen(text) == 9 && tenzor_heap_report(NULL, 0) > 100);
    tenzor_heap_trim();
    MUST(tenzor_allocator_destroy(pool, NULL));
}

// Where a heap is full, all that needs memory says so, or has it; and small requests have their reason.
static void a_full_heap_is_told(void) {
    tenzor_error error;
    tenzor_stats stats;
    tenzor_stats_of(tenzor_heap(), false, &stats);
    tenzor_heap_config config = tenzor_heap_config_unchanged();
    config.limit = stats.bytes_in_use_rounded + 4 * MIB;
    MUST(tenzor_heap_configure(&config, NULL));
    void **all = NULL, **next;
    size_t count = 0;
    while ((next = tenzor_alloc(tenzor_heap(), 1000, &error)) != NULL)
        *next = all, all = next, count++;
    MUST(count > 1000 && error.kind == TENZOR_OVER_LIMIT && error.limit == config.limit && error.requested == 1000);
    while (tenzor_is_malloc() && malloc(16) != NULL) {
    }
    for (int i = 0; i < 100; i++) {
        tenzor_allocator *made[] = {tenzor_pool_create(NULL, NULL, &error), tenzor_arena_create(MIB, NULL, &error),
                                    tenzor_planned_create(NULL, NULL, &error)};
        for (int kind = 0; kind < 3; kind++) {
            MUST(made[kind] == NULL || tenzor_alloc(made[kind], 100000, &error) == NULL || kind == 1);
            MUST(tenzor_allocator_destroy(made[kind], &error));
        }
        tenzor_budget_destroy(tenzor_budget_create("full", 1, NULL, &error));
        char text[4000];
        tenzor_stats_json(tenzor_heap(), text, sizeof text);
    }
    config.limit = SIZE_MAX;
    MUST(tenzor_heap_configure(&config, NULL));
    for (; all != NULL; all = next)
        next = *all, tenzor_free(tenzor_heap(), all, 1000);
    tenzor_allocator *arena = tenzor_arena_create(0, NULL, &error);
    MUST(tenzor_alloc(arena, SIZE_MAX / 2 - 100, &error) == NULL && tenzor_stats_of(arena, false, &stats) && stats.failures == 1);
    MUST(tenzor_allocator_destroy(arena, NULL));
}

int main(int count, char **args) {
    MUST(count == 2 && tenzor_is_malloc() == (strcmp(args[1], "malloc") == 0));
    MUST(strcmp(tenzor_version(), "0.1.0") == 0);
    errors_say_why();
    every_kind_holds();
    pressure_is_told();
    the_heap_is_one();
    a_full_heap_is_told();
    return 0;
}
