package main

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// button counts how often it is pressed.
type button struct {
	machine
	pressed chan struct{}
}

func (b button) PowerButton() error {
	b.pressed <- struct{}{}
	return nil
}

func TestShutdownPlan(t *testing.T) {
	const attach, grace, leave, end = "attach", "grace over", "leave", "end"
	for _, tt := range []struct {
		name    string
		events  []any // a signal, or one of the above
		presses int
		code    int // exit code of the stop; -1: not stopped
	}{
		{"nothing happens", []any{attach, end}, 0, -1},
		{"a signal and a guest that powers off", []any{attach, syscall.SIGTERM, end}, 1, -1},
		{"a signal and a guest that does not", []any{attach, syscall.SIGTERM, grace}, 1, 128 + 15},
		{"two signals", []any{attach, syscall.SIGTERM, syscall.SIGINT}, 1, 128 + 2},
		{"a hangup is a signal like the others", []any{attach, syscall.SIGHUP, grace}, 1, 128 + 1},
		{"a signal before the machine exists", []any{syscall.SIGINT}, 0, 128 + 2},
		{"leaving", []any{attach, leave}, 0, 14},
		{"leaving before the machine exists", []any{leave}, 0, 14},
		{"leaving within the grace period", []any{attach, syscall.SIGTERM, leave}, 1, 14},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signals, left, attached, done := make(chan os.Signal), make(chan struct{}), make(chan machine), make(chan struct{})
			over := make(chan time.Time)
			code := -1
			m := button{pressed: make(chan struct{})}
			s := &shutdown{grace: 7 * time.Second, log: io.Discard,
				stop: func(cause error) { code = exitCode(stopError(cause)) },
				after: func(d time.Duration) <-chan time.Time {
					if d != 7*time.Second {
						t.Errorf("the grace period is %v", d)
					}
					return over
				}}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				s.watch(signals, left, attached, done)
			}()
			presses, isAttached := 0, false
			for _, e := range tt.events {
				switch e := e.(type) {
				case syscall.Signal:
					signals <- e
					if isAttached && presses == 0 {
						<-m.pressed
						presses++
					}
				case string:
					switch e {
					case attach:
						attached <- m
						isAttached = true
					case grace:
						over <- time.Time{}
					case leave:
						left <- struct{}{}
					case end:
						close(done)
					}
				}
			}
			<-ended
			if code != tt.code || presses != tt.presses {
				t.Errorf("stopped with %d after %d presses, want %d after %d", code, presses, tt.code, tt.presses)
			}
		})
	}
}

func TestShutdownSeesAMachineAttachedBeforeTheSignal(t *testing.T) {
	for range 100 { // both are ready when watch selects, and it may receive either first
		signals, attached, done := make(chan os.Signal, 1), make(chan machine, 1), make(chan struct{})
		m := button{pressed: make(chan struct{})}
		attached <- m
		signals <- syscall.SIGTERM
		ended := make(chan struct{})
		s := &shutdown{log: io.Discard, stop: func(error) { close(m.pressed) }, after: func(time.Duration) <-chan time.Time { return nil }}
		go func() {
			defer close(ended)
			s.watch(signals, nil, attached, done)
		}()
		if _, pressed := <-m.pressed; !pressed {
			t.Fatal("the signal stopped the machine instead of pressing its button")
		}
		close(done)
		<-ended
	}
}
