package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/disk"
	"minivmm/internal/testbed/emuhost"
	"minivmm/internal/testbed/probe"
)

// series are the kernels that hosts and guests run. On 6.12 vhost workers are threads of the VMM;
// on 6.1 they are kernel threads.
var series = []string{"6.12", "6.1"}

// The tools that tests need in addition to Go: Debian packages, and the names for MINIVMM_REQUIRE.
var (
	toolPackages = []string{"acpica-tools", "pciutils", "gcc", "libc6-dev", "strace", "sg3-utils", "fio", "mount", "e2fsprogs", "cpio", "openssh-client", "iperf3"}
	toolNames    = "iasl,lspci,gcc,strace,sg3-utils,fio,losetup,mke2fs,ssh,iperf3"
)

// clientPackages provide the programs that test the network in a Debian guest.
var clientPackages = []string{"openssh-server", "curl", "iperf3", "iputils-ping", "traceroute", "bind9-dnsutils", "isc-dhcp-client", "udhcpc"}

// debianBytes is the size of the tests' Debian disk: twice the size of its contents. Each test
// copies the disk.
const debianBytes = 768 << 20

// machinePackages are the packages with tests that need KVM or vhost.
var machinePackages = []string{
	"./kvm", "./vhost", "./vhost/lio", "./internal/testbed/proof", "./internal/diskimage", "./devices/virtio/net", "./devices/virtio/scsi", "./devices/virtio/scsi/target", "./devices/virtio/vhostbackend",
	"./vmm", "./cmd/minivmm", "./internal/testbed/e2e", "./guestimages/init",
	"./internal/testbed/probe",
}

// newestPackages are the packages whose tests also run on the newest kernel, because those tests
// check what the kernel itself does.
var newestPackages = []string{"./kvm", "./vhost", "./vhost/lio", "./internal/testbed/proof"}

// steadyTests matches the tests that need a steady clock. An emulated host has a steady clock if
// the clock counts instructions, but then the host is several times slower.
const steadyTests = "^TestCPUMaxThrottlesIperf3$"

// stage is one run of go test.
type stage struct {
	name  string // for the summary
	short string // for each line of output
	apart bool   // the stage uses all cores, so it runs alone; other stages use one core each and run in parallel
	env   []string
	args  []string // for go test
}

// with returns a copy of the stage that requires one thing more in MINIVMM_REQUIRE and has more
// variables in its environment.
func (st stage) with(need string, env ...string) stage {
	st.env = slices.Concat(st.env, env)
	for i, v := range st.env {
		if strings.HasPrefix(v, "MINIVMM_REQUIRE=") {
			st.env[i] = v + "," + need
		}
	}
	return st
}

// test runs every stage, even if one fails, and prints a summary.
func test(ctx context.Context, c *cache.Cache, out io.Writer) error {
	start := time.Now()
	stages, err := plan(ctx, c)
	if err != nil {
		return err
	}
	s := newSummary(out)
	return s.run(ctx, stages, start)
}

// unit runs the tests that need no emulated host, with the tools that this machine has.
func unit(ctx context.Context, out io.Writer) error {
	s := newSummary(out)
	s.unlisted = true
	return s.run(ctx, []stage{raceStage()}, time.Now())
}

// raceStage runs the tests of all packages on this machine, with the race detector.
func raceStage() stage {
	return stage{
		name: "this machine, with the race detector", short: "[race]", apart: true,
		env:  []string{"CGO_ENABLED=1"},
		args: []string{"-race", "-timeout", "20m", "./..."},
	}
}

// run runs the stages and prints a summary. The summary's total time counts from start.
func (s *summary) run(ctx context.Context, stages []stage, start time.Time) error {
	errs := make([]error, len(stages))
	var together sync.WaitGroup
	cores := make(chan struct{}, runtime.NumCPU())
	for i, st := range stages {
		c := s.begin(st.name, st.short)
		do := func() {
			start := time.Now()
			if err := run(ctx, st, c); err != nil {
				errs[i] = fmt.Errorf("%s: %w", st.name, err)
			}
			c.ended(time.Since(start))
		}
		if st.apart {
			do()
			continue
		}
		cores <- struct{}{}
		together.Go(func() {
			defer func() { <-cores }()
			do()
		})
	}
	together.Wait()
	s.print(time.Since(start))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// plan returns the stages of "make test", after it has prepared everything that the stages need.
func plan(ctx context.Context, c *cache.Cache) ([]stage, error) {
	a := debian.New(c)
	g, err := prepareGuests(ctx, c, a)
	if err != nil {
		return nil, err
	}
	root, err := c.Make(ctx, debianDisk(), func(ctx context.Context, tmp string) error {
		c.Logf("creating a Debian disk (once, a minute or two)")
		return disk.Debian(ctx, tmp, false, disk.Options{Install: a.Install, SizeBytes: debianBytes}, disk.DebianOptions{Include: clientPackages})
	})
	if err != nil {
		return nil, err
	}
	choice, err := probe.Choose(ctx, c, "auto")
	if err != nil {
		return nil, err
	}
	machine := stage{
		env: g.env(c, ""),
		// The emulated host's clock measures the time limit. On a busy computer that clock can run
		// fast, if the host's kernel measured the CPU as too slow.
		args: append([]string{"-count=1", "-p", "1", "-timeout", "5h"}, machinePackages...),
	}
	// A full Debian takes as long as ten other guests, so each of the two tests that boot it runs
	// on one host only.
	withDebian := func(st stage) stage { return st.with("debian-disk", "MINIVMM_DEBIAN_DISK="+root) }
	withClients := func(st stage) stage { return st.with("clients-disk", "MINIVMM_CLIENTS_DISK="+root) }
	race := raceStage()
	erofs, err := erofsUtils(ctx, c, a)
	if err != nil {
		return nil, err
	}
	race.env = append(race.env, "MINIVMM_REQUIRE=compiler,debian,erofs-utils,test-kernels,userns,"+toolNames, "MINIVMM_TEST_KERNELS="+strings.Join(g.images, ":"),
		"PATH="+erofs+":"+os.Getenv("PATH"))
	stages := []stage{race}
	about := " (" + choice.Why + "), guests on Linux " + strings.Join(series, " and ")
	if choice.Direct {
		release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
		machine.short = "[direct]"
		machine.name = "this machine, Linux " + strings.TrimSpace(string(release)) + about
		return append(stages, withDebian(withClients(machine))), nil
	}
	launcher, err := buildLauncher(ctx, c)
	if err != nil {
		return nil, err
	}
	var hosts, steady []stage // one for each kernel
	var newest stage
	for _, name := range append(slices.Clone(series), emuhost.Newest) {
		config := emuhost.DefaultConfig()
		config.Kernel = name
		if _, err := emuhost.Prepare(ctx, c, config); err != nil {
			return nil, err
		}
		host := machine
		host.short = "[" + name + "]"
		host.name = "emulated host on Linux " + name + about
		host.env = g.env(c, name)
		host = host.with("kthread-mode")
		host.args = append([]string{"-exec", launcher + " exec -kernel " + name}, machine.args...)
		if name == emuhost.Newest {
			host.args = append(host.args[:len(host.args)-len(machinePackages)], newestPackages...)
			newest = host
			continue
		}
		hosts = append(hosts, host)

		host = host.with("steady-clock")
		host.short = "[" + name + " steady]"
		host.name = "emulated host on Linux " + name + " whose clock counts instructions"
		host.args = []string{"-exec", launcher + " exec -icount -kernel " + name, "-count=1", "-timeout", "1h", "-run", steadyTests, "./internal/testbed/e2e"}
		steady = append(steady, host)
	}
	hosts[0], hosts[len(hosts)-1] = withClients(hosts[0]), withDebian(hosts[len(hosts)-1])
	return append(slices.Concat(stages, hosts, steady), newest, stage{
		short: "[host]",
		name:  "the emulated host itself, on Linux " + strings.Join(series, " and "),
		env:   []string{"MINIVMM_REQUIRE=emuhost"},
		args:  []string{"-count=1", "-timeout", "30m", "./internal/testbed/emuhost"},
	}), nil
}

// buildLauncher builds the program emuhost and returns the binary's path. go test splits -exec at
// spaces, so if the source tree's path contains spaces or quotes, the binary goes to the cache.
func buildLauncher(ctx context.Context, c *cache.Cache) (string, error) {
	path, err := filepath.Abs("build/emuhost")
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(path, " \t'\"") {
		path = c.Path("emuhost")
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "./internal/testbed/cmd/emuhost").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build emuhost: %w\n%s", err, out)
	}
	return path, nil
}

// run runs a stage's go test and passes its events to c.
func run(ctx context.Context, st stage, c *covered) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-json"}, st.args)...)
	cmd.Env = append(os.Environ(), st.env...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	readErr := c.read(events)
	err = cmd.Wait()
	return errors.Join(readErr, err)
}
