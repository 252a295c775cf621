// Loads a library in the way that the first argument says, and frees blocks of before and after on both sides. `loads late LIBRARY` has the library that is
// tested come when the program runs; `loads deep PLUGIN` asks for RTLD_DEEPBIND, `loads apart` has a second C library by dlmopen.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *blocks[1000];
static size_t size_of(int i) { return 1 + (size_t)i * i % 100003; }

static void take(void) {
    for (int i = 0; i < 1000; i++)
        memset(blocks[i] = malloc(size_of(i)), i, size_of(i));
}

static int give_back(void) {
    for (int i = 0; i < 1000; i++) {
        unsigned char *block = blocks[i] = realloc(blocks[i], size_of(i) + 100);
        if (block[0] != (unsigned char)i || block[size_of(i) - 1] != (unsigned char)i)
            return 1;
        free(block);
    }
    return 0;
}

static void *thread(void *library) {
    free(strdup("thread"));
    return library;
}

int main(int count, char **args) {
    if (count < 2)
        return 2;
    take();
    void *library;
    if (!strcmp(args[1], "late"))
        library = dlopen(args[2], RTLD_NOW | (count > 3 ? RTLD_GLOBAL : RTLD_LOCAL));
    else if (!strcmp(args[1], "deep"))
        library = dlopen(args[2], RTLD_NOW | RTLD_DEEPBIND);
    else
        library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    if (!library) {
        printf("%s\n", dlerror());
        return 1;
    }
    if (give_back())
        return 3;
    take();
    char *(*copy)(char *) = (char *(*)(char *))dlsym(library, "plugin_copy");
    if (copy) {
        char *text = copy(strdup("a text"));
        printf("%s\n", text);
        free(text);
    }
    if (!strcmp(args[1], "apart")) {
        // Each C library has blocks of its own.
        char *(*theirs)(const char *) = (char *(*)(const char *))dlsym(library, "strdup");
        void (*release)(void *) = (void (*)(void *))dlsym(library, "free");
        char *text = theirs("another text");
        printf("%s\n", text);
        release(text);
    }
    for (int i = 0; i < 50; i++) {
        pthread_t one;
        pthread_create(&one, NULL, thread, library);
        pthread_join(one, NULL);
    }
    pid_t child = fork();
    if (child == 0)
        _exit(give_back());
    int status = 1;
    waitpid(child, &status, 0);
    if (status || give_back())
        return 4;
    void *none = dlopen("libnone.so", RTLD_NOW);
    printf("%s\n", none ? "there" : dlerror());
    dlclose(library);
    return 0;
}
