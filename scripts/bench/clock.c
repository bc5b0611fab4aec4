/* clock: a clock that gives the same times on every run (preloaded into mkntfs
 * and volgen, so that one seed gives one image). Starts in 2021 and moves by a
 * third of a second at each question.
 */
#define _GNU_SOURCE
#include <sys/time.h>
#include <time.h>

static long long ticks;

int clock_gettime(clockid_t id, struct timespec *t)
{
	long long n = 1622548800000000000ll + ticks++ * 333333300ll;
	(void)id;
	t->tv_sec = n / 1000000000;
	t->tv_nsec = n % 1000000000;
	return 0;
}
int gettimeofday(struct timeval *t, void *tz)
{
	struct timespec s;
	(void)tz;
	clock_gettime(CLOCK_REALTIME, &s);
	t->tv_sec = s.tv_sec;
	t->tv_usec = s.tv_nsec / 1000;
	return 0;
}
time_t time(time_t *out)
{
	struct timespec s;
	clock_gettime(CLOCK_REALTIME, &s);
	if (out) *out = s.tv_sec;
	return s.tv_sec;
}
