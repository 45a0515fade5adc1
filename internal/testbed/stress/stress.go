package stress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config describes the guest and its load.
type Config struct {
	QEMU     string // stock qemu-system-x86_64
	Kernel   string // bzImage
	Initrd   string // from initrd.Build, with the default command
	CPUs     int
	Duration time.Duration
	Log      io.Writer // receives the guest's console output
}

// Addresses of the tap and of the guest, in a network reserved for tests (RFC 5737).
var (
	hostAddress  = [4]byte{192, 0, 2, 1}
	guestAddress = [4]byte{192, 0, 2, 2}
)

// startLimit limits the time from the guest's start to its first answer.
const startLimit = 2 * time.Minute

// endLimit limits the time from the end of the load to the guest's power-off.
const endLimit = time.Minute

// guestDone is the line that init prints if the load ended normally.
const guestDone = "init: exit status 0"

// Run loads a guest for the duration and returns the number of pings that it answered. The error
// describes a guest that crashed or hung.
func Run(ctx context.Context, c Config) (answered int, err error) {
	tap, err := openTap("stress0", hostAddress)
	if err != nil {
		return 0, err
	}
	defer tap.Close()
	if err := watchShutdowns(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit+c.Duration+endLimit, errors.New("the guest hung"))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.QEMU, arguments(c)...)
	cmd.ExtraFiles = []*os.File{tap}
	console := &tee{to: c.Log}
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("stress: %w", err)
	}
	guestEnded, stop := context.WithCancel(ctx)
	flooded := make(chan result, 1)
	go func() {
		n, err := flood(guestEnded, guestAddress, c.Duration)
		flooded <- result{n, err}
	}()
	waitErr := cmd.Wait()
	stop()
	r := <-flooded
	switch {
	case ctx.Err() != nil:
		return r.answered, fmt.Errorf("stress: %w", context.Cause(ctx))
	case waitErr != nil:
		return r.answered, fmt.Errorf("stress: qemu: %w", waitErr)
	case !console.contains(guestDone):
		return r.answered, earlyEnd()
	case r.err != nil:
		return r.answered, r.err
	}
	return r.answered, nil
}

type result struct {
	answered int
	err      error
}

// arguments returns QEMU's command line. The guest's load is one dd per CPU, with two system calls
// per byte, until they are killed.
func arguments(c Config) []string {
	load := strings.Repeat("dd if=/dev/zero of=/dev/null bs=1 & ", c.CPUs) + fmt.Sprintf("sleep %d; exit 0", int(c.Duration.Seconds()))
	ip := fmt.Sprintf("ip=%s:::255.255.255.0::eth0:off", dotted(guestAddress))
	return []string{
		"-accel", "kvm", "-cpu", "host", "-smp", strconv.Itoa(c.CPUs), "-m", "512",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", c.Kernel, "-initrd", c.Initrd,
		"-append", `console=ttyS0 panic=-1 ` + ip + ` -- /bin/sh -c "` + load + `"`,
		"-netdev", "tap,id=net,fd=3,vhost=on", "-device", "virtio-net-pci,netdev=net,romfile=",
	}
}

func dotted(a [4]byte) string {
	return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3])
}

// tee keeps the output that it passes on.
type tee struct {
	to io.Writer

	mu   sync.Mutex
	kept []byte // guarded by mu
}

// keepBytes limits how much of the console is searched.
const keepBytes = 64 << 10

func (t *tee) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-keepBytes):]
	t.mu.Unlock()
	return t.to.Write(p)
}

func (t *tee) contains(s string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Contains(t.kept, []byte(s))
}
