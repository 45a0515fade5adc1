/*
 * Does cpu.max throttle a vhost worker?
 *
 * A child in a cgroup with cpu.max "25000 100000" owns a vhost-net device, so that the worker, a copy
 * of the child's thread, is in that cgroup too. The parent, outside the cgroup, offers frames to the
 * transmit ring without end. The worker therefore always has work. The program prints the CPU time of
 * the cgroup over five seconds of wall time: at most 25 % if the worker is throttled.
 *
 * With an argument, the parent freezes and thaws the cgroup every 10 ms. That sets TIF_SIGPENDING on
 * the worker, whose loop (kernel/vhost_task.c, vhost_task_fn) then calls get_signal(), which runs the
 * pending task work: the worker is throttled.
 *
 * Build: gcc -O2 -Wall -o cpu-max-vhost-worker cpu-max-vhost-worker.c
 * Run as root, with at least two CPUs, cgroup v2 in /sys/fs/cgroup with the cpu controller enabled
 * for the root's children, and the modules vhost_net and tun.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUP "/sys/fs/cgroup/cpu-max-vhost-worker"
#define NUM 256
#define FRAME (10 + 60) /* struct virtio_net_hdr and the smallest frame */

static struct shared {
	struct vring_desc desc[NUM];
	struct {
		__u16 flags, idx, ring[NUM], event;
	} avail;
	struct {
		__u16 flags, idx;
		struct vring_used_elem ring[NUM];
		__u16 event;
	} used __attribute__((aligned(4)));
	char frame[FRAME];
	volatile int ready;
} *m;

static void must(int failed, const char *what)
{
	if (failed)
		err(1, "%s", what);
}

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);

	must(fd < 0 || write(fd, text, strlen(text)) < 0, file);
	close(fd);
}

static long long count(const char *key)
{
	char line[256], name[64];
	long long n;
	FILE *f = fopen(GROUP "/cpu.stat", "r");

	must(!f, GROUP "/cpu.stat");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %lld", name, &n) == 2 && !strcmp(name, key)) {
			fclose(f);
			return n;
		}
	errx(1, "cpu.stat has no %s", key);
}

static int open_tap(void)
{
	struct ifreq ifr = { .ifr_name = "repro%d" };
	int fd = open("/dev/net/tun", O_RDWR), sock = socket(AF_INET, SOCK_DGRAM, 0);

	must(fd < 0, "/dev/net/tun");
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI;
	must(ioctl(fd, TUNSETIFF, &ifr) < 0, "TUNSETIFF");
	ifr.ifr_flags = IFF_UP;
	must(ioctl(sock, SIOCSIFFLAGS, &ifr) < 0, "SIOCSIFFLAGS");
	close(sock);
	return fd;
}

/* own makes the calling process the owner of a vhost-net device that transmits from the ring. */
static void own(int kick)
{
	const int ring = 1; /* transmit */
	__u64 features = 1ULL << VHOST_NET_F_VIRTIO_NET_HDR;
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region;
	} table = { { .nregions = 1 }, { (__u64)(unsigned long)m, sizeof(*m), (__u64)(unsigned long)m, 0 } };
	struct vhost_vring_state num = { ring, NUM }, base = { ring, 0 };
	struct vhost_vring_addr addr = {
		.index = ring,
		.desc_user_addr = (__u64)(unsigned long)m->desc,
		.avail_user_addr = (__u64)(unsigned long)&m->avail,
		.used_user_addr = (__u64)(unsigned long)&m->used,
	};
	struct vhost_vring_file kickfd = { ring, kick }, backend = { ring, open_tap() };
	int fd = open("/dev/vhost-net", O_RDWR);

	must(fd < 0, "/dev/vhost-net");
	must(ioctl(fd, VHOST_SET_OWNER) < 0, "VHOST_SET_OWNER");
	must(ioctl(fd, VHOST_SET_FEATURES, &features) < 0, "VHOST_SET_FEATURES");
	must(ioctl(fd, VHOST_SET_MEM_TABLE, &table) < 0, "VHOST_SET_MEM_TABLE");
	must(ioctl(fd, VHOST_SET_VRING_NUM, &num) < 0, "VHOST_SET_VRING_NUM");
	must(ioctl(fd, VHOST_SET_VRING_BASE, &base) < 0, "VHOST_SET_VRING_BASE");
	must(ioctl(fd, VHOST_SET_VRING_ADDR, &addr) < 0, "VHOST_SET_VRING_ADDR");
	must(ioctl(fd, VHOST_SET_VRING_KICK, &kickfd) < 0, "VHOST_SET_VRING_KICK");
	must(ioctl(fd, VHOST_NET_SET_BACKEND, &backend) < 0, "VHOST_NET_SET_BACKEND");
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void bind_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(sched_setaffinity(0, sizeof(set), &set) < 0, "sched_setaffinity");
}

int main(int argc, char **argv)
{
	const int poke = argc > 1;
	int kick = eventfd(0, 0);
	long long usage, throttled;
	double begin, took, poked = 0;
	pid_t child;

	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(m == MAP_FAILED || kick < 0, "mmap or eventfd");
	memset(m->frame + 10, 0xff, 12);
	for (int i = 0; i < NUM; i++) {
		m->desc[i].addr = (__u64)(unsigned long)m->frame;
		m->desc[i].len = FRAME;
		m->avail.ring[i] = i;
	}
	must(mkdir(GROUP, 0755) < 0, GROUP);
	put(GROUP "/cpu.max", "25000 100000");

	child = fork();
	must(child < 0, "fork");
	if (!child) {
		put(GROUP "/cgroup.procs", "0");
		bind_to(0);
		own(kick);
		m->ready = 1;
		for (;;)
			pause();
	}
	bind_to(1);
	while (!m->ready)
		must(waitpid(child, NULL, WNOHANG) != 0, "the child");

	usage = count("usage_usec");
	throttled = count("nr_throttled");
	begin = now();
	while ((took = now() - begin) < 5) {
		__u64 one = 1;

		__atomic_store_n(&m->avail.idx, __atomic_load_n(&m->used.idx, __ATOMIC_ACQUIRE) + NUM, __ATOMIC_RELEASE);
		must(write(kick, &one, sizeof(one)) < 0, "kick");
		if (poke && took - poked > 0.01) {
			put(GROUP "/cgroup.freeze", "1");
			put(GROUP "/cgroup.freeze", "0");
			poked = took;
		}
	}
	usage = count("usage_usec") - usage;
	throttled = count("nr_throttled") - throttled;

	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	while (rmdir(GROUP) < 0)
		usleep(1000);
	printf("cpu.max 25 %%: the worker's cgroup used %.1f %% of a CPU, throttled %lld times in %.1f s\n", usage / took / 1e4, throttled, took);
	return 0;
}
