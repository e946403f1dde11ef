/* Comes between a program and its C library: lets syncs fail or take their time, leaves files no room to
 * grow, and shifts the clock of the wall, as the file that SABOTAGE names says. Compiled and preloaded by
 * sabotage.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct {
    _Atomic int64_t failing_syncs; /* so many more will fail */
    _Atomic int64_t sync_ms;       /* each takes so long */
    _Atomic int64_t clock_s;       /* added to the clock */
    _Atomic int64_t full;          /* whether no file may grow */
    _Atomic int64_t refused;       /* writes that found no room */
} *told;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SABOTAGE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) told = map;
}

/* A full disk takes what is written over something, and nothing else. What goes to no file, or to the log
 * of the program itself, needs no disk. */
static int finds_no_room(int file, off_t start, size_t length) {
    struct stat found;
    if (!told || !atomic_load(&told->full) || file <= STDERR_FILENO || length == 0) return 0;
    if (fstat(file, &found) != 0 || !S_ISREG(found.st_mode)) return 0;
    if (start < 0) start = lseek(file, 0, SEEK_CUR);
    if (start + (off_t)length <= found.st_size) return 0;
    atomic_fetch_add(&told->refused, 1);
    errno = ENOSPC;
    return 1;
}

ssize_t write(int file, const void *bytes, size_t length) {
    return finds_no_room(file, -1, length) ? -1 : syscall(SYS_write, file, bytes, length);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t start) {
    if (finds_no_room(file, start, length)) return -1;
    return syscall(SYS_pwrite64, file, bytes, length, start);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t start) {
    return pwrite(file, bytes, length, start);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t start) {
    size_t length = 0;
    for (int part = 0; part < count; part++) length += parts[part].iov_len;
    if (finds_no_room(file, start, length)) return -1;
    return syscall(SYS_pwritev, file, parts, (long)count, start, 0L);
}

static int sync_as_told(long call, int file) {
    if (told) {
        int64_t ms = atomic_load(&told->sync_ms);
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
        while (ms > 0 && nanosleep(&pause, &pause) != 0 && errno == EINTR);
        int64_t failing = atomic_load(&told->failing_syncs);
        while (failing > 0)
            if (atomic_compare_exchange_weak(&told->failing_syncs, &failing, failing - 1)) {
                errno = EIO;
                return -1;
            }
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return sync_as_told(SYS_fsync, file); }
int fdatasync(int file) { return sync_as_told(SYS_fdatasync, file); }

static int is_of_the_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && told && is_of_the_wall(clock)) time->tv_sec += atomic_load(&told->clock_s);
    return result;
}

/* What Postgres asks for the time; by itself it would go past clock_gettime, to the kernel's page. */
int gettimeofday(struct timeval *time, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    if (seconds) *seconds = now.tv_sec;
    return now.tv_sec;
}
