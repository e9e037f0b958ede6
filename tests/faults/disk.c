/* A disk that fails, for the experiments: loaded into a node, or into a database's server, before its own C library's calls.
 *
 * The file named by DISK_FAULT says how some files fail from now on: those whose path contains DISK_FILES, or, without
 * that, whose name contains "ledger.db":
 *   flush     fsync and fdatasync fail with EIO
 *   full      a write that would make a file longer fails with ENOSPC
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
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char last[64];
static long writes;

static int is_ledger(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    const char *files = getenv("DISK_FILES");
    if (files) return strstr(path, files) != NULL;
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

/* Whether a write up to here has no room; asked of the file itself. */
static int has_no_room(int fd, off_t end) {
    int kept = errno, none = 0;
    char said[64];
    struct stat is;
    if (is_ledger(fd)) {
        how(said, sizeof said);
        none = !strncmp(said, "full", 4) && !fstat(fd, &is) && S_ISREG(is.st_mode) && end > is.st_size;
    }
    errno = none ? ENOSPC : kept;
    return none;
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

static ssize_t pwrite_as(const char *name, int fd, const void *from, size_t n, off_t at) {
    if (has_no_room(fd, at + (off_t)n)) return -1;
    enum fate fate = judge(fd);
    size_t part = fate == SOUND || n < 2 ? n : n / 2;
    return fated(fate, REAL(name, ssize_t (*)(int, const void *, size_t, off_t))(fd, from, part, at));
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { return pwrite_as("pwrite", fd, from, n, at); }
ssize_t pwrite64(int fd, const void *from, size_t n, off_t at) { return pwrite_as("pwrite64", fd, from, n, at); }

static ssize_t pwritev_as(const char *name, int fd, const struct iovec *parts, int n, off_t at) {
    off_t end = at;
    for (int i = 0; i < n; i++) end += parts[i].iov_len;
    if (has_no_room(fd, end)) return -1;
    return REAL(name, ssize_t (*)(int, const struct iovec *, int, off_t))(fd, parts, n, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) { return pwritev_as("pwritev", fd, parts, n, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int n, off_t at) { return pwritev_as("pwritev64", fd, parts, n, at); }

static int allocate_as(const char *name, int fd, off_t at, off_t n) {
    if (has_no_room(fd, at + n)) return ENOSPC;
    return REAL(name, int (*)(int, off_t, off_t))(fd, at, n);
}

int posix_fallocate(int fd, off_t at, off_t n) { return allocate_as("posix_fallocate", fd, at, n); }
int posix_fallocate64(int fd, off_t at, off_t n) { return allocate_as("posix_fallocate64", fd, at, n); }

ssize_t write(int fd, const void *from, size_t n) {
    int kept = errno;
    off_t at = lseek(fd, 0, SEEK_CUR);
    errno = kept;
    if (at >= 0 && has_no_room(fd, at + (off_t)n)) return -1;
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
