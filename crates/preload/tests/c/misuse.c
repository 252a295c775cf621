// One misuse, by its number; 0 says how many there are (with TENZOR_CHECK=1 there are more). Each ends the process with a line.
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);

// So that the compiler does not see what comes.
static void *hide(void *p) {
    void *volatile hidden = p;
    return hidden;
}

static char in_data[100];
static void *block(size_t n) { return memset(malloc(n), 1, n); }

static void run_twice(void) {
    void *p = block(1000000);
    free(hide(p));
    free(hide(p));
}
static void large_run_twice(void) {
    void *p = block(3000000);
    free(hide(p));
    free(hide(p));
}
static void run_twice_with_another_between(void) {
    void *p = block(100000), *other = block(110000);
    free(hide(p));
    free(hide(other));
    free(hide(p));
}
static void aligned_run_twice(void) {
    void *p = aligned_alloc(1 << 16, 1000000);
    free(hide(p));
    free(hide(p));
}
static void within_a_run(void) { free(hide((char *)block(1000000) + 4096)); }
static void near_the_start_of_a_run(void) { free(hide((char *)block(1000000) + 16)); }
static void within_a_small_block(void) { free(hide((char *)block(100) + 16)); }
static void odd_within_a_small_block(void) { free(hide((char *)block(100) + 1)); }
static void within_a_block_of_pages(void) { free(hide((char *)block(20000) + 4096)); }
static void within_the_first_page_of_some(void) { free(hide((char *)block(20000) + 64)); }
static void on_the_stack(void) {
    char local[100];
    free(hide(local));
}
static void in_the_data(void) { free(hide(in_data)); }
static void in_the_code(void) { free(hide((void *)(uintptr_t)run_twice)); }
static void at_a_literal(void) { free(hide((void *)(uintptr_t) "literal")); }
static void nowhere(void) { free(hide((void *)0x10)); }
static void nowhere_far(void) { free(hide((void *)0x5a5a5a5a5a50)); }
static void where_nothing_may_be_read(void) {
    free((char *)hide(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + 16);
}
static void sized_too_large(void) { free_sized(hide(block(1000)), 5000); }
static void sized_too_small(void) { free_sized(hide(block(1000)), 10); }
static void sized_otherwise_for_a_run(void) { free_sized(hide(block(1000000)), 1000001); }
static void aligned_sized_wrongly(void) { free_aligned_sized(hide(aligned_alloc(4096, 8192)), 4096, 100000); }
static void resized_after_a_free(void) {
    void *p = block(1000000);
    free(hide(p));
    hide(realloc(hide(p), 10));
}
static void resized_within(void) { hide(realloc((char *)hide(block(1000000)) + 64, 10)); }
static void resized_on_the_stack(void) {
    char local[100];
    hide(realloc(hide(local), 10));
}
static void asked_for_its_size_within(void) { hide((void *)malloc_usable_size(hide((char *)block(1000000) + 64))); }
static void never_given(void) {
    // Beyond what was ever granted, and yet the heap's.
    char *p = block(1000000);
    free(hide((char *)((uintptr_t)p & ~(uintptr_t)4095) + (1 << 20)));
}
static void *free_it(void *p) {
    free(hide(p));
    return NULL;
}
static void run_twice_by_another_thread(void) {
    pthread_t thread;
    void *p = block(1000000);
    free(hide(p));
    pthread_create(&thread, NULL, free_it, p);
    pthread_join(thread, NULL);
}
static void moved_from(void) {
    void *p = block(1000000), *wall = block(1000000);
    void *q = realloc(hide(p), 80000000);
    hide(wall);
    if (q != p)
        free(hide(p));
    else
        fputs("it was where the block was freed: not moved\n", stderr), abort();
}

// What is noticed at once with TENZOR_CHECK=1 only.
static void small_twice(void) {
    void *p = block(100), *other = block(100);
    free(hide(p));
    free(hide(p));
    hide(other);
}
static void the_last_of_its_slab_twice(void) {
    void *p = block(3000);
    free(hide(p));
    free(hide(p));
}
static void pages_twice(void) {
    void *p = block(20000);
    free(hide(p));
    free(hide(p));
}
static void small_twice_by_another_thread(void) {
    pthread_t thread;
    void *p = block(100), *other = block(100);
    free(hide(p));
    pthread_create(&thread, NULL, free_it, p);
    pthread_join(thread, NULL);
    hide(other);
}
static void small_resized_after_a_free(void) {
    void *p = block(100), *other = block(100);
    free(hide(p));
    hide(realloc(hide(p), 110));
    hide(other);
}
static void small_asked_for_its_size_after_a_free(void) {
    void *p = block(100), *other = block(100);
    free(hide(p));
    hide((void *)malloc_usable_size(hide(p)));
    hide(other);
}

static void (*const misuses[])(void) = {
    run_twice, large_run_twice, run_twice_with_another_between, aligned_run_twice, within_a_run, near_the_start_of_a_run, within_a_small_block, odd_within_a_small_block,
    within_a_block_of_pages, within_the_first_page_of_some, on_the_stack, in_the_data, in_the_code, at_a_literal, nowhere, nowhere_far, where_nothing_may_be_read,
    sized_too_large, sized_too_small, sized_otherwise_for_a_run, aligned_sized_wrongly, resized_after_a_free, resized_within,
    resized_on_the_stack, asked_for_its_size_within, never_given, run_twice_by_another_thread, moved_from,
};
static void (*const checked[])(void) = {
    small_twice, the_last_of_its_slab_twice, pages_twice, small_twice_by_another_thread, small_resized_after_a_free,
    small_asked_for_its_size_after_a_free,
};

int main(int count, char **args) {
    const char *check = getenv("TENZOR_CHECK");
    int is_checked = check != NULL && *check == '1';
    int number = count > 1 ? atoi(args[1]) : 0, unchecked = sizeof misuses / sizeof *misuses;
    if (number == 0) {
        printf("%d\n", unchecked + (is_checked ? (int)(sizeof checked / sizeof *checked) : 0));
        return 0;
    }
    number <= unchecked ? misuses[number - 1]() : checked[number - unchecked - 1]();
    printf("misuse %d was not noticed\n", number);
    return 0;
}
