// Before main, at the end of threads, and after main.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *before;

__attribute__((constructor(101))) static void first(void) {
    before = strdup("before main");
    free(malloc(1 << 20));
}

static __thread char *own;
static void *thread(void *unused) {
    own = malloc(100);
    strcpy(own, "thread");
    free(own);
    return unused;
}

static void last(void) {
    free(before);
    char *p = malloc(100000);
    free(p);
    puts("after main");
}

__attribute__((destructor)) static void very_last(void) { free(realloc(malloc(10), 1 << 20)); }

int main(void) {
    if (strcmp(before, "before main"))
        return 1;
    atexit(last);
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
    // What dlsym and dlerror take is freed by them.
    for (int i = 0; i < 100; i++) {
        dlsym(RTLD_DEFAULT, "no such symbol");
        dlerror();
    }
    // A library that comes late finds what the program finds.
    void *late = dlopen("libm.so.6", RTLD_NOW | RTLD_DEEPBIND);
    if (!late)
        return 2;
    dlclose(late);
    return 0;
}
