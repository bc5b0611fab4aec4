/* gauge: runs a few processes and says what they cost, as one line of JSON.
 *
 *   gauge STAGE [:| STAGE]... [:& ...] [:+ ...]
 *
 * A stage is a program with its arguments; `:< FILE` and `:> FILE` in it redirect.
 * `:|` pipes one stage into the next, `:&` starts another pipe beside it, `:+`
 * waits for everything so far and goes on. What no `:>` takes goes to /dev/null;
 * standard error stays.
 *
 * Every process is waited for by itself, so user and system time are those of all
 * of them (and of what they waited for), and the peak is that of the largest one.
 * This program is small on purpose: on Linux a child's peak starts with its
 * parent's. `anon` is the part no file backs (memory-mapped input is not in it),
 * sampled every 20 ms, so the shortest peaks can escape it; `rss` is the kernel's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 32

static struct { pid_t pid; const char *name; int code, status_fd; } proc[MOST];
static int procs, running;
static double user, sys;
static long rss, anon;

static void fail(const char *what)
{
	fprintf(stderr, "gauge: %s: %s\n", what, strerror(errno));
	exit(125);
}
static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}
static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec * 1e-6; }
static void tick(int sig) { (void)sig; }

static void sample(void)
{
	char text[2048];
	for (int i = 0; i < procs; i++) {
		if (proc[i].status_fd < 0) continue;
		ssize_t n = pread(proc[i].status_fd, text, sizeof text - 1, 0);
		if (n <= 0) continue;
		text[n] = 0;
		char *at = strstr(text, "RssAnon:");
		if (at && atol(at + 8) > anon) anon = atol(at + 8);
	}
}
static void reap(void) /* until nothing runs */
{
	while (running) {
		struct rusage u;
		int status;
		pid_t pid = wait4(-1, &status, 0, &u);
		if (pid < 0) {
			if (errno != EINTR) fail("wait");
			sample();
			continue;
		}
		running--;
		user += seconds(u.ru_utime);
		sys += seconds(u.ru_stime);
		if (u.ru_maxrss > rss) rss = u.ru_maxrss;
		for (int i = 0; i < procs; i++)
			if (proc[i].pid == pid) {
				proc[i].code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
				if (proc[i].status_fd >= 0) close(proc[i].status_fd);
				proc[i].status_fd = -1;
			}
	}
}
static void start(char **arg, int n, int in, int out)
{
	char *argv[256], path[64];
	const char *from = NULL, *to = NULL;
	int argc = 0;
	for (int i = 0; i < n; i++) {
		if (!strcmp(arg[i], ":<") && i + 1 < n) from = arg[++i];
		else if (!strcmp(arg[i], ":>") && i + 1 < n) to = arg[++i];
		else if (argc < 255) argv[argc++] = arg[i];
	}
	argv[argc] = NULL;
	if (!argc || procs == MOST) { errno = EINVAL; fail("stage"); }
	pid_t pid = fork();
	if (pid < 0) fail("fork");
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		int a = from ? open(from, O_RDONLY | O_CLOEXEC) : in >= 0 ? in : null;
		int b = to ? open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : out >= 0 ? out : null;
		if (a < 0 || b < 0) fail(a < 0 ? from : to);
		dup2(a, 0);
		dup2(b, 1);
		const char *shim = getenv("GAUGE_PRELOAD");
		if (shim && *shim) setenv("LD_PRELOAD", shim, 1);
		execvp(argv[0], argv);
		fail(argv[0]);
	}
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	proc[procs].pid = pid;
	proc[procs].name = argv[0];
	proc[procs].code = -1;
	proc[procs].status_fd = open(path, O_RDONLY | O_CLOEXEC);
	procs++;
	running++;
}

int main(int argc, char **argv)
{
	struct itimerval every = { { 0, 20000 }, { 0, 20000 } };
	struct sigaction sa = { .sa_handler = tick };
	int in = -1, first = 1;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);

	double begin = now();
	for (int i = 1; i <= argc; i++) {
		const char *a = i < argc ? argv[i] : ":+";
		if (strcmp(a, ":|") && strcmp(a, ":&") && strcmp(a, ":+")) continue;
		int ends[2] = { -1, -1 };
		if (a[1] == '|') {
			if (pipe2(ends, O_CLOEXEC)) fail("pipe");
		}
		start(argv + first, i - first, in, ends[1]);
		if (in >= 0) close(in);
		if (ends[1] >= 0) close(ends[1]);
		in = ends[0];
		first = i + 1;
		if (a[1] == '+') reap();
	}
	double wall = now() - begin;

	printf("{\"wall\":%.4f,\"user\":%.4f,\"sys\":%.4f,\"rss_kib\":%ld,\"anon_kib\":%ld,\"codes\":[", wall, user, sys, rss, anon);
	for (int i = 0; i < procs; i++) printf("%s%d", i ? "," : "", proc[i].code);
	puts("]}");
	return 0;
}
