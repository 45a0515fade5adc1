package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// shutdown stops a machine on signals. The first signal presses the power button and starts the
// grace period; a second signal, or the end of the grace period, stops the guest at once. A signal
// before the machine exists, and Ctrl-A x at any time, stop it at once.
type shutdown struct {
	grace time.Duration
	stop  context.CancelCauseFunc // with errLeft or a signalError
	log   io.Writer
	after func(time.Duration) <-chan time.Time // time.After

	pressed syscall.Signal // the signal that pressed the power button, 0 for none; owned by watch until it returns
}

// watch returns when it has stopped the machine or done is closed.
func (s *shutdown) watch(signals <-chan os.Signal, left <-chan struct{}, attached <-chan machine, done <-chan struct{}) {
	var m machine
	var graceOver <-chan time.Time
	for {
		select {
		case m = <-attached:
		case sig := <-signals:
			if m == nil {
				select { // the machine may have been attached before the signal arrived
				case m = <-attached:
				default:
				}
			}
			n, _ := sig.(syscall.Signal)
			if m == nil || s.pressed != 0 {
				s.stop(signalError{n})
				return
			}
			s.pressed = n
			fmt.Fprintf(s.log, "minivmm: %v: pressed the guest's power button; the guest is killed on a second signal or after %v\n", sig, s.grace)
			graceOver = s.after(s.grace)
			if err := m.PowerButton(); err != nil {
				fmt.Fprintf(s.log, "minivmm: power button: %v\n", err)
			}
		case <-graceOver:
			fmt.Fprintf(s.log, "minivmm: the guest did not power off within %v\n", s.grace)
			s.stop(signalError{s.pressed})
			return
		case <-left:
			s.stop(errLeft)
			return
		case <-done:
			return
		}
	}
}
