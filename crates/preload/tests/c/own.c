// A program with an allocator of its own, which has no aligned blocks, and ends where it is given another's.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char pool[1 << 24];
static size_t used;

void *malloc(size_t n) {
    n = (n + 31) & ~(size_t)15;
    if (used + n > sizeof pool)
        return NULL;
    char *p = pool + used + 16;
    *(size_t *)(p - 16) = n - 16;
    used += n;
    return p;
}
void free(void *p) {
    if (p && ((char *)p < pool || (char *)p >= pool + sizeof pool)) {
        write(2, "another's block\n", 16);
        _exit(3);
    }
}
void *calloc(size_t a, size_t b) {
    void *p = malloc(a * b);
    return p ? memset(p, 0, a * b) : p;
}
void *realloc(void *old, size_t n) {
    void *p = malloc(n);
    if (p && old) {
        size_t had = ((size_t *)old)[-2];
        memcpy(p, old, had < n ? had : n);
    }
    return p;
}

int main(void) {
    char *p = malloc(10);
    strcpy(p, "text");
    p = realloc(p, 1000);
    void *q = NULL;
    if (strcmp(p, "text") || posix_memalign(&q, 64, 100) || !q || !reallocarray(NULL, 10, 10))
        return 1;
    free(p);
    puts("own");
    return 0;
}
