// Two threads free much and then rest: how many threads there are?
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_barrier_t done;

static void *work(void *unused) {
    char *blocks[32];
    for (int i = 0; i < 32; i++)
        blocks[i] = memset(malloc(1 << 20), 1, 1 << 20);
    for (int i = 0; i < 32; i++)
        free(blocks[i]);
    pthread_barrier_wait(&done);
    pthread_barrier_wait(&done);
    return unused;
}

static int threads(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; (task = readdir(tasks)) != NULL;)
        count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

int main(void) {
    pthread_t workers[2];
    pthread_barrier_init(&done, NULL, 3);
    for (int i = 0; i < 2; i++)
        pthread_create(&workers[i], NULL, work, NULL);
    pthread_barrier_wait(&done);
    printf("%d threads\n", threads());
    pthread_barrier_wait(&done);
    for (int i = 0; i < 2; i++)
        pthread_join(workers[i], NULL);
    return 0;
}
