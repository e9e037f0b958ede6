/* A disk that fails, for the experiments: loaded into a node before its own C library's calls.
 *
 * The file named by DISK_FAULT says how the files whose names contain "ledger.db" fail from now on:
 *   flush     fsync and fdatasync fail with EIO
 *   short     every write does half of what was asked for, and says so
 *   half N    the Nth write from now on does half and says that it failed (EIO)
 *   torn N    the Nth write from now on does half, and the machine stops: the process kills itself
 * Anything else, or no file: nothing fails.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char last[64];
static long writes;

static int is_ledger(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    const char *name = strrchr(path, '/');
    return name && strstr(name, "ledger.db") && !strstr(name, "-shm");
}

static void how(char *into, size_t size) {
    into[0] = 0;
    const char *at = getenv("DISK_FAULT");
    int fd = at ? open(at, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    ssize_t n = read(fd, into, size - 1);
    close(fd);
    into[n > 0 ? n : 0] = 0;
    if (strcmp(into, last)) {
        strncpy(last, into, sizeof last - 1);
        writes = 0;
    }
}

/* How much of a write is done; with what, if anything, happens afterwards. */
enum fate { SOUND, SHORT, FAIL, DIE };

static enum fate judge(int fd) {
    int kept = errno;
    char said[64];
    long nth;
    enum fate fate = SOUND;
    if (is_ledger(fd)) {
        how(said, sizeof said);
        if (!strncmp(said, "short", 5)) fate = SHORT;
        else if (sscanf(said, "half %ld", &nth) == 1 && ++writes == nth) fate = FAIL;
        else if (sscanf(said, "torn %ld", &nth) == 1 && ++writes == nth) fate = DIE;
    }
    errno = kept;
    return fate;
}

static ssize_t fated(enum fate fate, ssize_t done) {
    if (fate == DIE) raise(SIGKILL);
    if (fate == FAIL) {
        errno = EIO;
        return -1;
    }
    return done;
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

static ssize_t pwrite_as(const char *name, int fd, const void *from, size_t n, off_t at) {
    enum fate fate = judge(fd);
    size_t part = fate == SOUND || n < 2 ? n : n / 2;
    return fated(fate, REAL(name, ssize_t (*)(int, const void *, size_t, off_t))(fd, from, part, at));
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { return pwrite_as("pwrite", fd, from, n, at); }
ssize_t pwrite64(int fd, const void *from, size_t n, off_t at) { return pwrite_as("pwrite64", fd, from, n, at); }

ssize_t write(int fd, const void *from, size_t n) {
    enum fate fate = judge(fd);
    size_t part = fate == SOUND || n < 2 ? n : n / 2;
    return fated(fate, REAL("write", ssize_t (*)(int, const void *, size_t))(fd, from, part));
}

static int flush_as(const char *name, int fd) {
    char said[64];
    if (is_ledger(fd)) {
        how(said, sizeof said);
        if (!strncmp(said, "flush", 5)) {
            errno = EIO;
            return -1;
        }
    }
    return REAL(name, int (*)(int))(fd);
}

int fsync(int fd) { return flush_as("fsync", fd); }
int fdatasync(int fd) { return flush_as("fdatasync", fd); }
