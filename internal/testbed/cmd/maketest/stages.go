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

	"golang.org/x/sys/unix"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/disk"
	"minivmm/internal/testbed/emuhost"
	"minivmm/internal/testbed/probe"
)

// series are the kernels that hosts and guests run: with the kernel's workers as threads of the VMM, and from before.
var series = []string{"6.12", "6.1"}

// tools are the packages that tests need beside Go, and as MINIVMM_REQUIRE names them.
var (
	toolPackages = []string{"acpica-tools", "pciutils", "gcc", "libc6-dev", "strace", "sg3-utils", "fio", "mount", "e2fsprogs", "erofs-utils", "cpio", "openssh-client", "iperf3"}
	toolNames    = "iasl,lspci,gcc,strace,sg3-utils,fio,losetup,mke2fs,ssh,iperf3"
)

// clientPackages are the programs that try the network in a Debian guest.
var clientPackages = []string{"openssh-server", "curl", "iperf3", "iputils-ping", "traceroute", "bind9-dnsutils", "isc-dhcp-client", "udhcpc"}

// debianBytes is the size of the tests' Debian disk, which each test copies: twice what is in it.
const debianBytes = 768 << 20

// machinePackages have tests that need KVM or vhost.
var machinePackages = []string{
	"./kvm", "./vhost", "./vhost/lio", "./internal/testbed/proof", "./internal/diskimage", "./devices/virtio/net", "./devices/virtio/scsi", "./devices/virtio/scsi/target", "./devices/virtio/vhostbackend",
	"./vmm", "./cmd/minivmm", "./internal/testbed/e2e",
	"./internal/testbed/probe",
}

// steadyTests are those that need a steady clock: an emulated host has one when it counts instructions, and is several times slower then.
const steadyTests = "^TestCPUMaxThrottlesIperf3$"

// stage is one run of go test.
type stage struct {
	name  string // what it covers
	short string
	apart bool // it wants the machine's cores for itself; the others take one each and run together
	env   []string
	args  []string // of go test
}

// with is the stage with one more need of MINIVMM_REQUIRE, and what goes with it in the environment.
func (st stage) with(need string, env ...string) stage {
	st.env = slices.Concat(st.env, env)
	for i, v := range st.env {
		if strings.HasPrefix(v, "MINIVMM_REQUIRE=") {
			st.env[i] = v + "," + need
		}
	}
	return st
}

// test runs every stage, also after one failed, and prints what was covered.
func test(ctx context.Context, c *cache.Cache, out io.Writer) error {
	start := time.Now()
	stages, err := plan(ctx, c)
	if err != nil {
		return err
	}
	s := newSummary(out)
	return s.run(ctx, stages, start)
}

// unit runs what needs no emulated host, with what is on this machine: the stage for a change that
// was just made.
func unit(ctx context.Context, out io.Writer) error {
	s := newSummary(out)
	s.unlisted = true
	return s.run(ctx, []stage{raceStage()}, time.Now())
}

// raceStage has all packages' tests on this machine.
func raceStage() stage {
	return stage{
		name: "this machine, with the race detector", short: "[race]", apart: true,
		env:  []string{"CGO_ENABLED=1"},
		args: []string{"-race", "-timeout", "20m", "./..."},
	}
}

// run runs the stages and prints what was covered since start.
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

// plan prepares what the stages need and lists them.
func plan(ctx context.Context, c *cache.Cache) ([]stage, error) {
	a := debian.New(c)
	g, err := prepareGuests(ctx, c, a)
	if err != nil {
		return nil, err
	}
	root, err := c.Make(ctx, debianDisk(), func(ctx context.Context, tmp string) error {
		c.Logf("making a Debian disk (a minute or two, once)")
		return disk.Debian(ctx, tmp, false, disk.Options{Install: a.Install, SizeBytes: debianBytes}, disk.DebianOptions{Include: clientPackages})
	})
	if err != nil {
		return nil, err
	}
	mode := os.Getenv(emuhost.ModeEnv)
	if mode == "" {
		mode = "auto"
	}
	choice, err := emuhost.Choose(ctx, mode, probe.Guest(c))
	if err != nil {
		return nil, err
	}
	machine := stage{
		env: g.env(c, ""),
		// By the emulated host's clock, which a busy machine can make run fast: its kernel then measured the CPU too slow.
		args: append([]string{"-count=1", "-p", "1", "-timeout", "5h"}, machinePackages...),
	}
	// A whole Debian takes as long as ten other guests, so one host boots it for one test, and the other for another.
	withDebian := func(st stage) stage { return st.with("debian-disk", "MINIVMM_DEBIAN_DISK="+root) }
	withClients := func(st stage) stage { return st.with("clients-disk", "MINIVMM_CLIENTS_DISK="+root) }
	race := raceStage()
	race.env = append(race.env, "MINIVMM_REQUIRE=compiler,"+toolNames, "MINIVMM_TEST_KERNELS="+strings.Join(g.images, ":"))
	stages := []stage{race}
	about := " (" + choice.Why + "), guests on Linux " + strings.Join(series, " and ")
	if choice.Direct {
		machine.short = "[direct]"
		machine.name = "this machine, Linux " + release() + about
		return append(stages, withDebian(withClients(machine))), nil
	}
	launcher, err := buildLauncher(ctx, c)
	if err != nil {
		return nil, err
	}
	var hosts, steady []stage // of each kernel
	for _, name := range series {
		config := emuhost.DefaultConfig()
		config.Kernel = name
		if _, err := emuhost.Prepare(ctx, c, config); err != nil {
			return nil, err
		}
		host := machine
		host.short = "[" + name + "]"
		host.name = "emulated host on Linux " + name + about
		host.env = g.env(c, name)
		host.args = append([]string{"-exec", launcher + " exec -kernel " + name}, machine.args...)
		hosts = append(hosts, host)

		host = host.with("steady-clock")
		host.short = "[" + name + " steady]"
		host.name = "emulated host on Linux " + name + " whose clock counts instructions"
		host.args = []string{"-exec", launcher + " exec -icount -kernel " + name, "-count=1", "-timeout", "1h", "-run", steadyTests, "./internal/testbed/e2e"}
		steady = append(steady, host)
	}
	hosts[0], hosts[len(hosts)-1] = withClients(hosts[0]), withDebian(hosts[len(hosts)-1])
	return append(slices.Concat(stages, hosts, steady), stage{
		short: "[host]",
		name:  "the emulated host itself, on Linux " + strings.Join(series, " and "),
		env:   []string{"MINIVMM_REQUIRE=emuhost"},
		args:  []string{"-count=1", "-timeout", "30m", "./internal/testbed/emuhost"},
	}), nil
}

// buildLauncher builds emuhost; go test splits -exec at spaces, so it goes to the cache where the source tree's path may
// have some.
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

// run runs a stage's go test; what it says goes to the summary.
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

// release is this machine's kernel.
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
