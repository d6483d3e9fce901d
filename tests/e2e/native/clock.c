/*
 * A wall clock that is off by CLOCK_OFFSET_S seconds, for one process: preloaded, it moves CLOCK_REALTIME and leaves every
 * other clock alone. Rows can so become months old within a test.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

typedef int (*clock_gettime_function)(clockid_t, struct timespec *);

int clock_gettime(clockid_t clock, struct timespec *now) {
    static clock_gettime_function real;
    static long long offset_s;
    if (!real) {
        const char *offset = getenv("CLOCK_OFFSET_S");
        offset_s = offset ? atoll(offset) : 0;
        real = (clock_gettime_function)dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += offset_s;
    }
    return result;
}
