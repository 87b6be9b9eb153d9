/* A disk that takes its time: fsync waits as many seconds as the file named by SLOW_FSYNC says. For LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int fsync(int handle) {
    const char *name = getenv("SLOW_FSYNC");
    FILE *file = name ? fopen(name, "r") : NULL;
    double seconds = 0.0;
    if (file) {
        if (fscanf(file, "%lf", &seconds) != 1) seconds = 0.0;
        fclose(file);
    }
    if (seconds > 0.0) usleep((useconds_t)(seconds * 1e6));
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(handle);
}
