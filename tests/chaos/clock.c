/* A wall clock that can be stepped, for the processes that load this library: the seconds in the file named by
   CHAOS_CLOCK (one double, mapped) are added to the time of day. The monotonic clock is left alone, as by a real step.
   (libfaketime 0.9.10 cannot do that: Python's time.sleep, a clock_nanosleep to an absolute monotonic time, fails.)
   Waits until a time of day are moved back by the same seconds. A condition variable does not tell which clock it
   counts by; a deadline of more than BORDER seconds cannot be of a clock that starts at boot. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BORDER 1000000000
static volatile double zero = 0.0, *offset = &zero;

__attribute__((constructor)) static void open_clock(void) {
    const char *name = getenv("CHAOS_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) offset = page;
}

static struct timespec moved(struct timespec at, double seconds) {
    double whole = floor(seconds);
    at.tv_sec += (time_t)whole;
    at.tv_nsec += (long)((seconds - whole) * 1e9);
    if (at.tv_nsec >= 1000000000) { at.tv_sec++; at.tv_nsec -= 1000000000; }
    return at;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define OF_DAY(clock) ((clock) == CLOCK_REALTIME || (clock) == CLOCK_REALTIME_COARSE)

int clock_gettime(clockid_t clock, struct timespec *at) {
    REAL(clock_gettime);
    int status = real(clock, at);
    if (!status && OF_DAY(clock)) *at = moved(*at, *offset);
    return status;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    int status = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return status;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *at, struct timespec *left) {
    REAL(clock_nanosleep);
    struct timespec until = *at;
    if (clock == CLOCK_REALTIME && flags & TIMER_ABSTIME) until = moved(until, -*offset);
    return real(clock, flags, &until, left);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *at) {
    static __typeof__(&pthread_cond_timedwait) real; /* dlsym may return the one of 1999 */
    if (!real) real = (__typeof__(&pthread_cond_timedwait))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = (__typeof__(&pthread_cond_timedwait))dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec until = at->tv_sec > BORDER ? moved(*at, -*offset) : *at;
    return real(condition, mutex, &until);
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *at) {
    REAL(pthread_cond_clockwait);
    struct timespec until = OF_DAY(clock) ? moved(*at, -*offset) : *at;
    return real(condition, mutex, clock, &until);
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *at) {
    REAL(pthread_mutex_timedlock);
    struct timespec until = moved(*at, -*offset);
    return real(mutex, &until);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *at) {
    REAL(sem_timedwait);
    struct timespec until = moved(*at, -*offset);
    return real(semaphore, &until);
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *at) {
    REAL(sem_clockwait);
    struct timespec until = OF_DAY(clock) ? moved(*at, -*offset) : *at;
    return real(semaphore, clock, &until);
}
