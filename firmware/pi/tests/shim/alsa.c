/* Stands before alsa-lib (LD_PRELOAD) and lets the microphone fail as it is told.
 *
 * The file named by SORI_SHIM has one line, read at every call; without it nothing is wrong:
 *
 *   epipe N      the next N reads overrun
 *   estrpipe N   the next N reads find that the system slept
 *   enodev       no read and no opening finds the device
 *   ebusy        openings find the device in use
 *   short N      reads return N frames at most, a power of two
 *   silent       the device is open and nothing comes
 *
 * The line is for as long as the file is there; a count starts anew when the line changes.
 * SORI_SHIM_LOG, if set, gets the name of every fault that happened, a line each.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct snd_pcm snd_pcm_t;
typedef long frames_t;

static char fault[64];
static long left;

static void look(void)
{
    static char before[80];
    char line[80] = "";
    const char *path = getenv("SORI_SHIM");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (!fgets(line, sizeof line, file))
            line[0] = 0;
        fclose(file);
    }
    if (strcmp(line, before)) {
        strcpy(before, line);
        fault[0] = 0;
        left = 1;
        sscanf(line, "%63s %ld", fault, &left);
    }
}

static int is(const char *name)
{
    return !strcmp(fault, name);
}

static int happens(const char *name, int error)
{
    const char *path = getenv("SORI_SHIM_LOG");
    int log = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (log >= 0) {
        if (write(log, name, strlen(name)) < 0 || write(log, "\n", 1) < 0)
            perror(path);
        close(log);
    }
    return -error;
}

static int counted(const char *name)
{
    return is(name) && left > 0 && left--;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int snd_pcm_open(snd_pcm_t **pcm, const char *name, int stream, int mode)
{
    REAL(snd_pcm_open);
    look();
    if (is("enodev"))
        return happens("open enodev", ENODEV);
    if (is("ebusy"))
        return happens("open ebusy", EBUSY);
    return real(pcm, name, stream, mode);
}

frames_t snd_pcm_readi(snd_pcm_t *pcm, void *buffer, unsigned long size)
{
    REAL(snd_pcm_readi);
    look();
    if (counted("epipe"))
        return happens("epipe", EPIPE);
    if (counted("estrpipe"))
        return happens("estrpipe", ESTRPIPE);
    if (is("enodev"))
        return happens("enodev", ENODEV);
    if (is("silent"))
        return happens("silent", EAGAIN);
    /* What is written at once. The `file` plugin takes less than it asked its FIFO for to be
     * all of it, and returns whatever was in the rest. */
    if (size > 512)
        size = 512;
    if (is("short") && size > (unsigned long)left && left > 0) {
        happens("short", 0);
        size = (unsigned long)left;
    }
    return real(pcm, buffer, size);
}

int snd_pcm_wait(snd_pcm_t *pcm, int timeout_ms)
{
    REAL(snd_pcm_wait);
    look();
    if (is("silent")) {
        struct timespec sleep = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
        nanosleep(&sleep, NULL);
        return 0;
    }
    return real(pcm, timeout_ms);
}

/* The `file` plugin never sleeps, and would refuse. */
int snd_pcm_resume(snd_pcm_t *pcm)
{
    (void)pcm;
    return -ENOSYS;
}
