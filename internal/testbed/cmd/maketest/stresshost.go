package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/internal/testbed/emuhost"
)

// trial is one start of an emulated host.
type trial struct {
	count int // the number of starts or guests that it tests
	run   func(context.Context) error
}

// expect returns a trial that runs the command, which must print exactly want to standard output.
func expect(h *emuhost.Host, count int, want string, argv ...string) trial {
	return trial{count, func(ctx context.Context) error {
		var out, errs bytes.Buffer
		exit, err := h.Run(ctx, agent.Command{Argv: argv, Env: os.Environ(), Dir: "/"}, agent.Streams{Stdout: &out, Stderr: &errs})
		if err == nil && (exit.Code() != 0 || out.String() != want) {
			err = fmt.Errorf("exit status %d, output %q, errors:\n%s", exit.Code(), &out, &errs)
		}
		return err
	}}
}

// guestsPerHost is the number of guests that one host boots, one after another.
const guestsPerHost = 10

// loadedPerCore is the number of hosts for each core of this machine in the test under load.
const loadedPerCore = 3

// guestScript boots $1 guests with 4 CPUs, one after another, using minivmm at $2. Each guest forks
// on every CPU, then checks its disk and its network card, which vhost workers serve.
const guestScript = `
for i in $(seq $1); do
	$2 run --cpus 4 --memory 256M --net vhost --disk /tmp/disk.img,backend=vhost-scsi -- /bin/sh -c '
		for cpu in 1 2 3 4; do (for n in 1 2 3 4 5; do /bin/true; done) & done; wait
		test $(nproc) = 4 -a -b /dev/sda -a -d /sys/class/net/eth0 && cat /dev/sda > /dev/null && echo works' || exit 1
done`

// floodScript boots a guest with 4 CPUs, using minivmm at $1, that makes system calls on every CPU
// for $2 seconds, and floods it with pings. A QEMU without the fix of package qemu delivers
// interrupts twice under that load, which kills the guest with a double fault or hangs it.
const floodScript = `
timeout $(($2 + 180)) $1 run --cpus 4 --memory 256M \
	--net vhost,address=192.0.2.1/24 --cmdline ip=192.0.2.2:::255.255.255.0::eth0:off -- \
	/bin/sh -c "for cpu in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=1 & done; sleep $2; echo works" &
until ping -c 1 -W 1 192.0.2.2 > /dev/null 2>&1; do kill -0 $! || exit 1; done
ping -q -f -l 32 -w $(($2 - 10)) 192.0.2.2 >&2
ping -q -c 1 -w 30 192.0.2.2 >&2 || echo no answer after the flood
wait $!`

// floodSeconds is the length of a flood.
const floodSeconds = "60"

// stressHost starts emulated hosts, alternating between the kernels. First, one host on each kernel
// floods a guest. Second, it starts as many hosts as starts says: half of them one at a time, the
// others with more hosts at once than this machine has cores. Third, it starts hosts that boot
// guests with several CPUs, as many guests in total as guests says. It restarts no host, so a host
// that dies is a failure. stressHost prints each failure and the figures for docs/testing.md.
func stressHost(ctx context.Context, c *cache.Cache, out io.Writer, starts, guests string) error {
	startCount, err := strconv.Atoi(starts)
	if err != nil {
		return err
	}
	guestCount, err := strconv.Atoi(guests)
	if err != nil {
		return err
	}
	a := debian.New(c)
	if _, err := prepareGuests(ctx, c, a); err != nil {
		return err
	}
	if err := a.Install(ctx, "flooding a guest", "iputils-ping"); err != nil {
		return err
	}
	program, err := filepath.Abs("build/minivmm")
	if err != nil {
		return err
	}
	var floods, boots, smp []trial
	var hosts []*emuhost.Host
	for _, name := range series {
		config := emuhost.DefaultConfig()
		config.Kernel, config.Restarts = name, 0
		h, err := emuhost.Prepare(ctx, c, config)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
		floods = append(floods, expect(h, 1, "works\n", "/bin/sh", "-c", floodScript, "flood", program, floodSeconds))
	}
	for i := range startCount {
		boots = append(boots, expect(hosts[i%len(hosts)], 1, "works\n", "/bin/echo", "works"))
	}
	for i := 0; guestCount > 0; i++ {
		n := min(guestCount, guestsPerHost)
		guestCount -= n
		smp = append(smp, expect(hosts[i%len(hosts)], n, strings.Repeat("works\n", n),
			"/bin/sh", "-c", "truncate -s 8M /tmp/disk.img"+guestScript, "guests", strconv.Itoa(n), program))
	}
	half := (len(boots) + 1) / 2
	return errors.Join(
		try(ctx, out, "guests flooded with pings", floods, 1),
		try(ctx, out, "starts, one at a time", boots[:half], 1),
		try(ctx, out, "starts on a loaded machine", boots[half:], loadedPerCore*runtime.NumCPU()),
		try(ctx, out, "guests with 4 CPUs", smp, runtime.NumCPU()),
		context.Cause(ctx),
	)
}

// try runs the trials, at most atATime at once, and prints how many succeeded. Trials that an
// interrupt stops are not counted.
func try(ctx context.Context, out io.Writer, what string, trials []trial, atATime int) error {
	var (
		mu     sync.Mutex
		good   int
		bad    []error
		took   []time.Duration
		all    sync.WaitGroup
		places = make(chan struct{}, atATime)
	)
	total := 0
	for i, t := range trials {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		total += t.count
		all.Go(func() {
			defer func() { <-places }()
			start := time.Now()
			err := t.run(ctx)
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() != nil {
				total -= t.count
				return
			}
			took = append(took, time.Since(start))
			if err == nil {
				good += t.count
				return
			}
			bad = append(bad, fmt.Errorf("%s: host %d: %w", what, i+1, err))
			fmt.Fprintf(out, "%v\n", bad[len(bad)-1])
		})
	}
	all.Wait()
	if len(took) > 0 {
		slices.Sort(took)
		fmt.Fprintf(out, "%d of %d %s worked; a host took %v (median) to %v\n", good, total, what,
			took[len(took)/2].Round(100*time.Millisecond), took[len(took)-1].Round(100*time.Millisecond))
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d hosts failed: %s", len(bad), what)
	}
	return nil
}
