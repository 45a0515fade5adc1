package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"minivmm/guestimages/agent"
	"minivmm/vmm"
	"minivmm/vmm/config"
)

func TestErrorsHaveExitCodes(t *testing.T) {
	flag := &config.Error{Problems: []config.Problem{{Flag: "--cpus"}}}
	file := &config.Error{Problems: []config.Problem{{File: "x"}, {Flag: "--cpus"}}}
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("a bug"), 1},
		{usageError{errors.New("x")}, 2},
		{fmt.Errorf("machine web: %w", &config.MisfitError{Problem: "the machine has no kernel workers"}), 2},
		{signalError{syscall.SIGTERM}, 143},
		{quiet{signalError{syscall.SIGINT}}, 130},
		{quiet{outcomeError{vmm.Rebooted}}, 10},
		{quiet{outcomeError{vmm.Crashed}}, 11},
		{cutShortError{outcomeError{vmm.PoweredOff}}, 1},
		{cutShortError{outcomeError{vmm.Crashed}}, 11},
		{&vmm.KVMError{}, 12},
		{fmt.Errorf("vcpu 0: %w", syscall.ENOMEM), 4},
		{stopError(errLeft), 14},
		{channelError{syscall.EIO}, 1},
		{stopError(channelError{fmt.Errorf("write: %w", syscall.EPIPE)}), 128 + 13},
		{stopError(channelError{syscall.EACCES}), 1},
		{quiet{commandError{agent.Exit{Status: 3}}}, 3},
		{commandError{agent.Exit{Status: 127, Error: "no such program"}}, 127},
		{childError{137, errors.New("killed")}, 137},
		{errors.Join(outcomeError{vmm.Crashed}, cleanupError{syscall.EBUSY}), 1},
		{flag, 2},
		{file, 3},
		{fileError{&os.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}}, 3},
		{fileError{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}}, 5},
		{&os.PathError{Op: "open", Path: "/dev/kvm", Err: syscall.ENOENT}, 4},
		{&os.PathError{Op: "open", Path: "/home/x", Err: syscall.ENOENT}, 1},
		{&os.PathError{Op: "KVM_CREATE_VM", Path: "/dev/kvm", Err: syscall.ENODEV}, 4},
		{fmt.Errorf("kvm: %w", errors.ErrUnsupported), 4},
		{&os.PathError{Op: "open", Path: "/dev/kvm", Err: syscall.EACCES}, 5},
		{fmt.Errorf("net0: address 10.0.2.1/24: %w: eth0 already has it", syscall.EADDRINUSE), 6},
		{fmt.Errorf("net0: %w", &os.PathError{Op: "TUNSETIFF", Path: "/dev/net/tun", Err: syscall.EPERM}), 5},
		{fmt.Errorf("net0: %w", &os.PathError{Op: "TUNSETIFF", Path: "/dev/net/tun", Err: syscall.EBUSY}), 6},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: got %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestTheDocumentationHasEveryExitCode(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "## Exit codes")
	for _, e := range exitCodes {
		if row := "| " + e.code + " | " + e.meaning + " |\n"; !strings.Contains(table, row) {
			t.Errorf("docs/configuration.md lacks the row %s", row)
		}
	}
	if n := strings.Count(table, "\n| "); n != len(exitCodes)+1 {
		t.Errorf("docs/configuration.md has %d exit codes, the program %d", n-1, len(exitCodes))
	}
}
