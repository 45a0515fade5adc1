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

// claimName takes the machine's name, by which list, workers and stop find it. Where another machine
// has it and any will do, the process's number is added. Without a place for sockets the machine runs
// all the same, and the log says why.
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
		r.logf("no other program can ask for the workers or stop this machine: %v", err)
		return nil
	}
	r.name, r.plan.Name = name, config.Name(name.String())
	return nil
}

// controlled is a running machine as other programs see it.
type controlled struct {
	machine
	stop  func(now bool)
	quiet *time.Timer // what answering took is given back when it fires
}

// quietTime is how long nobody has asked when keepSmall is worth its time again.
const quietTime = 5 * time.Second

// newControlled is for as long as ctx lives.
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
