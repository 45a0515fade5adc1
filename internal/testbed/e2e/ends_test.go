package e2e

import (
	"io"
	"strings"
	"syscall"
	"testing"

	"minivmm/internal/testbed/clitest"
)

func TestARealGuestEndsInItsOwnWay(t *testing.T) {
	leavesNothing(t)
	for _, tt := range []struct {
		way, cmdline string
		code         int
	}{
		{"poweroff", "", 0},
		{"reboot", "", 10},
		{"reboot", "reboot=triple", 11},
	} {
		t.Run(tt.way+tt.cmdline, func(t *testing.T) {
			m := prepare(t, tt.cmdline, "").start()
			m.expect(`next\?`)
			io.WriteString(m.stdin, "end "+tt.way+"\n")
			m.exits(tt.code)
			if c := m.guest.Complaints(); len(c) > 0 {
				t.Errorf("the kernel complains about the machine:\n%s", strings.Join(c, "\n"))
			}
		})
	}
}

// TestARealGuestOnATerminal types at a guest and leaves in three ways. Afterwards the terminal's
// settings must be as before.
func TestARealGuestOnATerminal(t *testing.T) {
	leavesNothing(t)
	for _, tt := range []struct {
		name string
		act  func(*running)
		code int
	}{
		{"Ctrl-A x", func(m *running) {
			m.order("say hello guest", `said "hello guest"`)
			m.order("say a\x01\x01b", `said "a\\x01b"`)
			io.WriteString(m.stdin, "\x01x")
		}, 14},
		{"a signal and a deaf guest", func(m *running) {
			m.order("deaf", "hears nothing")
			m.signal(syscall.SIGTERM)
		}, 128 + 15},
		{"two signals", func(m *running) {
			m.order("deaf", "hears nothing")
			m.signal(syscall.SIGHUP)
			if _, err := m.log.Expect("hangup: pressed the guest's power button"); err != nil {
				m.t.Fatal(err)
			}
			m.signal(syscall.SIGTERM)
		}, 128 + 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			more := "[machine]\nshutdown_timeout = '1h'\n"
			if strings.HasPrefix(tt.name, "a signal") {
				more = "[machine]\nshutdown_timeout = '200ms'\n"
			}
			m := prepare(t, "", more)
			near := m.onTerminal()
			before := clitest.Termios(t, near)
			m.start()
			m.expect(`next\?`)
			tt.act(m)
			m.exits(tt.code)
			if after := clitest.Termios(t, near); after != before {
				t.Errorf("the terminal was not restored:\nbefore %+v\nafter  %+v", before, after)
			}
		})
	}
}
