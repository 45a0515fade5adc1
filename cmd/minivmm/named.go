package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

// claimName claims the name by which list, workers and stop find the machine. If another machine
// has the name and the user chose none, the process id is appended. If no socket can be created,
// the machine runs all the same and the log says why.
func (r *runner) claimName() error {
	wanted := string(r.plan.Name)
	name, err := control.Claim(wanted)
	var taken *control.TakenError
	if r.anyName && errors.As(err, &taken) {
		name, err = control.Claim(fmt.Sprintf("%s-%d", wanted, os.Getpid()))
	}
	switch {
	case errors.As(err, &taken):
		return err
	case err != nil:
		r.logf("minivmm workers, tune, rescan and stop will not find this machine: %v", err)
		return nil
	}
	r.name, r.plan.Name = name, config.Name(name.String())
	return nil
}

// controlled is a running machine as the control server sees it.
type controlled struct {
	machine
	stop  func(now bool)
	quiet *time.Timer // when it fires, memory that answering used is released
}

// quietTime is the time without a request after which keepSmall runs again.
const quietTime = 5 * time.Second

// newControlled returns m for the control server. Its timer stops when ctx is done.
func newControlled(ctx context.Context, m machine, stop func(now bool)) controlled {
	quiet := time.AfterFunc(quietTime, keepSmall)
	quiet.Stop()
	context.AfterFunc(ctx, func() { quiet.Stop() })
	return controlled{m, stop, quiet}
}

func (c controlled) About() account.Machine {
	c.quiet.Reset(quietTime)
	return c.machine.About()
}

func (c controlled) Report() (*account.Report, error) {
	c.quiet.Reset(quietTime)
	return c.machine.Report()
}

func (c controlled) Stop(now bool) { c.stop(now) }
