/* Comes between a program and its C library: lets syncs fail or take their time, and shifts the clock of
 * the wall, as the file that SABOTAGE names says. Compiled and preloaded by sabotage.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static struct {
    _Atomic int64_t failing_syncs; /* so many more will fail */
    _Atomic int64_t sync_ms;       /* each takes so long */
    _Atomic int64_t clock_s;       /* added to the clock */
} *told;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SABOTAGE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) told = map;
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

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && told && clock == CLOCK_REALTIME) time->tv_sec += atomic_load(&told->clock_s);
    return result;
}
