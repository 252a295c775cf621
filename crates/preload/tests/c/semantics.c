// What C's functions promise, to the letter. Every check that fails is named; the exit code is their number.
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *pvalloc(size_t);
void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);
void cfree(void *);

static int wrong;
#define CHECK(what) \
    do { \
        if (!(what)) { \
            wrong++; \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
        } \
    } while (0)

static int is_aligned(void *p, size_t align) { return (uintptr_t)p % align == 0; }

static int is_all(const unsigned char *p, size_t n, unsigned char byte) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte)
            return 0;
    return 1;
}

// The compiler knows what malloc does, and leaves out what has no effect.
static void *volatile kept;

static void basics(void) {
    static const size_t sizes[] = {0, 1, 15, 16, 17, 100, 1000, 4096, 7000, 8192, 20000, 65536, 65537, 100000, 1 << 20, 5 << 20, 100 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        unsigned char *p = malloc(n), *q = malloc(n);
        CHECK(p && q && p != q && is_aligned(p, 16) && is_aligned(q, 16));
        CHECK(malloc_usable_size(p) >= n);
        // All that is usable may be used, and is kept.
        size_t usable = malloc_usable_size(p);
        memset(p, 0xa5, usable);
        memset(q, 0x5a, n);
        unsigned char *r = realloc(p, 2 * n + 1);
        CHECK(r && is_all(r, usable < 2 * n + 1 ? usable : 2 * n + 1, 0xa5));
        CHECK(is_all(q, n, 0x5a));
        errno = 12345;
        free(r);
        free(q);
        CHECK(errno == 12345);
        unsigned char *z = calloc(n, 1);
        CHECK(z && is_all(z, n, 0));
        memset(z, 1, n);
        z = realloc(z, n / 2 + 1);
        CHECK(z && is_all(z, n / 2 < n ? n / 2 : n, 1));
        free(z);
    }
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
    unsigned char *p = realloc(NULL, 100);
    CHECK(p != NULL);
    errno = 7;
    CHECK(realloc(p, 0) == NULL && errno == 7);
    free_sized(malloc(1000), 1000);
    free_sized(malloc(1000000), 1000000);
    free_aligned_sized(aligned_alloc(4096, 8192), 4096, 8192);
    free_aligned_sized(aligned_alloc(1 << 16, 1 << 20), 1 << 16, 1 << 20);
    free_sized(NULL, 10);
    cfree(malloc(10));
}

static void too_much(void) {
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        volatile size_t n = sizes[i];
        errno = 0;
        CHECK(malloc(n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(n, 1) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(n / 2, 3) == NULL && errno == ENOMEM);
        unsigned char *p = malloc(50);
        memset(p, 3, 50);
        errno = 0;
        void *q = realloc(p, n);
        CHECK(q == NULL && errno == ENOMEM && is_all(p, 50, 3));
        errno = 0;
        CHECK(reallocarray(p, n / 2, 3) == NULL && errno == ENOMEM && is_all(p, 50, 3));
        free(p);
        errno = 0;
        CHECK(aligned_alloc(64, n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(valloc(n) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(n) == NULL && errno == ENOMEM);
        void *to = (void *)0x1234;
        errno = 42;
        CHECK(posix_memalign(&to, 64, n) == ENOMEM && to == (void *)0x1234 && errno == 42);
    }
    volatile size_t most = PTRDIFF_MAX;
    errno = 0;
    kept = malloc(most);
    CHECK(kept == NULL && errno == ENOMEM);
}

static void aligned(void) {
    for (size_t align = 1; align <= 4 << 20; align *= 2) {
        for (size_t n = 0; n <= 300000; n = 3 * n + 1) {
            void *p = aligned_alloc(align, n), *q = memalign(align, n), *to = NULL;
            CHECK(p && is_aligned(p, align) && is_aligned(p, 16) && malloc_usable_size(p) >= n);
            CHECK(q && is_aligned(q, align));
            errno = 42;
            int is_right = align >= sizeof(void *);
            CHECK(posix_memalign(&to, align, n) == (is_right ? 0 : EINVAL) && errno == 42);
            CHECK(is_right ? to && is_aligned(to, align) : to == NULL);
            memset(p, 9, n);
            // Resized, it keeps its contents, not its alignment.
            p = realloc(p, n + 1000);
            CHECK(p && is_all(p, n, 9));
            free(p);
            free(q);
            free(to);
        }
    }
    volatile size_t bad[] = {0, 3, 24, 100, SIZE_MAX};
    for (int i = 0; i < 5; i++) {
        void *to = (void *)0x1234;
        errno = 0;
        CHECK(posix_memalign(&to, bad[i], 100) == EINVAL && to == (void *)0x1234 && errno == 0);
        CHECK(aligned_alloc(bad[i], 100) == NULL && errno == EINVAL);
    }
    // Rounded up to a power of two.
    void *p = memalign(24, 100);
    CHECK(p && is_aligned(p, 32));
    free(p);
    errno = 0;
    volatile size_t most = SIZE_MAX;
    CHECK(memalign(most, 100) == NULL && errno == EINVAL);
    p = valloc(10);
    CHECK(p && is_aligned(p, 4096));
    free(p);
    p = pvalloc(10);
    CHECK(p && is_aligned(p, 4096) && malloc_usable_size(p) >= 4096);
    free(p);
}

// Other C libraries do not declare these.
#ifdef __GLIBC__
static void told(void) {
    size_t before = mallinfo2().uordblks;
    unsigned char *p = malloc(100 << 20);
    memset(p, 1, 100 << 20);
    kept = p;
    size_t with = mallinfo2().uordblks;
    CHECK(with - before >= 100 << 20 && with - before < 101 << 20);
    CHECK(mallinfo2().arena >= with);
    CHECK((size_t)mallinfo().uordblks >= 100 << 20);
    free(p);
    CHECK(mallinfo2().uordblks < before + (1 << 20));
    CHECK(malloc_trim(0) == 1);
    CHECK(malloc_trim(0) == 0);
    CHECK(mallopt(M_TRIM_THRESHOLD, 1) == 1);
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    CHECK(malloc_info(0, to) == 0);
    fclose(to);
    CHECK(strncmp(text, "<malloc version=", 16) == 0 && strstr(text, "</malloc>"));
    free(text);
    CHECK(malloc_info(1, stdout) != 0);
}
#else
static void told(void) {}
#endif

int main(void) {
    basics();
    too_much();
    aligned();
    told();
    return wrong > 100 ? 100 : wrong;
}
