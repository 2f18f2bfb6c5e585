/* Stands before the C library (LD_PRELOAD): a disk that is full, a clock that jumps.
 *
 * SORI_FULL names a folder with a file `full` in it for as long as nothing more can be
 * written to files of that folder. SORI_CLOCK names a file with the seconds by which the
 * wall clock is wrong.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int is_full(int fd)
{
    const char *folder = getenv("SORI_FULL");
    char link[64], path[4096], flag[4096];
    if (!folder)
        return 0;
    snprintf(flag, sizeof flag, "%s/full", folder);
    if (access(flag, F_OK))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return !strncmp(path, folder, strlen(folder));
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pwrite64");
    if (is_full(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
    return pwrite64(fd, bytes, count, at);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "write");
    if (is_full(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, count);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *path = getenv("SORI_CLOCK");
    if (!result && clock == CLOCK_REALTIME && path) {
        FILE *file = fopen(path, "r");
        long wrong = 0;
        if (file) {
            if (fscanf(file, "%ld", &wrong) == 1)
                now->tv_sec += wrong;
            fclose(file);
        }
    }
    return result;
}
