package msicount

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWithoutTheRights asks as an ordinary user. What a host that allows it counts, the tests of package vmm compare with guests.
func TestWithoutTheRights(t *testing.T) {
	refused := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, and only it, is that user's
		const nobody = 65534
		if _, _, errno := unix.Syscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 && unix.Getuid() == 0 {
			refused <- errno
			return
		}
		c, err := Open()
		if err == nil {
			c.Close()
		}
		refused <- err
	}()
	if err := <-refused; !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_BPF and CAP_PERFMON") {
		t.Errorf("as an ordinary user: %v", err)
	}
}

// TestProgramEndsInsideItself follows the jumps: each leads to an instruction of the program, forwards, and none into the second half
// of a 64-bit load.
func TestProgramEndsInsideItself(t *testing.T) {
	p := program(3, unix.Mkdev(0, 300), 0xeffffffc)
	if len(p)%8 != 0 {
		t.Fatalf("%d bytes", len(p))
	}
	n := len(p) / 8
	second := make([]bool, n+1)
	for i := range n {
		if p[8*i] == unix.BPF_LD|unix.BPF_DW|unix.BPF_IMM {
			second[i+1] = true
		}
	}
	jumps := 0
	for i := range n {
		if code := p[8*i]; second[i] || code&7 != unix.BPF_JMP || code&0xf0 == unix.BPF_CALL || code&0xf0 == unix.BPF_EXIT {
			continue
		}
		jumps++
		to := i + 1 + int(p[8*i+2]) + int(p[8*i+3])<<8
		if to <= i+1 || to >= n || second[to] {
			t.Errorf("instruction %d of %d jumps to %d", i, n, to)
		}
	}
	if jumps != 2 || p[8*(n-1)] != unix.BPF_JMP|unix.BPF_EXIT {
		t.Errorf("%d jumps, last instruction %#x", jumps, p[8*(n-1)])
	}
}
