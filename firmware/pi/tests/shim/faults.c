/* Stands before the C library (LD_PRELOAD): calls that fail.
 *
 * Of the calls on files below SORI_FAULTS_FOLDER, in their order, the one with the number SORI_FAULTS_AT and
 * as many as SORI_FAULTS_FOR altogether fail with SORI_FAULTS_ERRNO. At the end their number is written to
 * the file SORI_FAULTS_COUNT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static long calls;

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int is_below(const char *path)
{
    const char *folder = getenv("SORI_FAULTS_FOLDER");
    return folder && !strncmp(path, folder, strlen(folder));
}

/* Whether this call fails, which counts it. */
static int fails(const char *path)
{
    if (!is_below(path))
        return 0;
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST), at = number("SORI_FAULTS_AT");
    if (!at || call < at || call >= at + number("SORI_FAULTS_FOR"))
        return 0;
    errno = number("SORI_FAULTS_ERRNO");
    return 1;
}

static int fails_on(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(path);
}

__attribute__((destructor)) static void count(void)
{
    const char *path = getenv("SORI_FAULTS_COUNT");
    FILE *file = path ? fopen(path, "w") : 0;
    if (file) {
        fprintf(file, "%ld", calls);
        fclose(file);
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                        \
    int name(const char *path, int flags, ...)             \
    {                                                      \
        va_list more;                                      \
        va_start(more, flags);                             \
        mode_t mode = va_arg(more, mode_t);                \
        va_end(more);                                      \
        return fails(path) ? -1 : REAL(name)(path, flags, mode); \
    }

OPENS(open)
OPENS(open64)

#define ON_FD(type, name, parameters, arguments)              \
    type name parameters                                      \
    {                                                         \
        return fails_on(fd) ? -1 : REAL(name) arguments;      \
    }

ON_FD(ssize_t, read, (int fd, void *bytes, size_t count), (fd, bytes, count))
ON_FD(ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
ON_FD(ssize_t, pread64, (int fd, void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate64, (int fd, off64_t length), (fd, length))
ON_FD(int, fallocate64, (int fd, int mode, off64_t at, off64_t length), (fd, mode, at, length))

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset)
{
    if (fd >= 0 && fails_on(fd))
        return MAP_FAILED;
    return REAL(mmap64)(at, length, protection, flags, fd, offset);
}

int rename(const char *from, const char *to)
{
    return fails(from) ? -1 : REAL(rename)(from, to);
}

int unlink(const char *path)
{
    return fails(path) ? -1 : REAL(unlink)(path);
}
