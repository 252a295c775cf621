// A program whose code has a fixed place, and that uses the addresses of functions: each is in a table of its own.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    void *(*volatile take)(size_t) = malloc;
    void (*volatile give)(void *) = free;
    char *block = take(100000);
    printf("%zu\n", malloc_usable_size(block));
    give(block);
    give(aligned_alloc(64, 640));
    return 0;
}
