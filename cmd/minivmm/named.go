package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"minivmm/vmm"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

// claimName takes the machine's name, by which list, workers and stop find it. Where another machine
// has it and any will do, the process's number is added. Without a place for sockets, nil: the
// machine runs all the same, and the log says why.
func claimName(wanted string, anyName bool, logf func(format string, args ...any)) (*control.Name, error) {
	name, err := control.Claim(wanted)
	var taken *control.TakenError
	if anyName && errors.As(err, &taken) {
		name, err = control.Claim(fmt.Sprintf("%s-%d", wanted, os.Getpid()))
	}
	switch {
	case errors.As(err, &taken):
		return nil, err
	case err != nil:
		logf("no other program can ask for the workers or stop this machine: %v", err)
		return nil, nil
	}
	return name, nil
}

// controlled is a running VM as other programs see it.
type controlled struct {
	vm    *vmm.VM
	stop  func(now bool)
	quiet *time.Timer // what answering took is given back when it fires
}

// quietTime is how long nobody has asked when keepSmall is worth its time again.
const quietTime = 5 * time.Second

// newControlled is for as long as ctx lives.
func newControlled(ctx context.Context, vm *vmm.VM, stop func(now bool)) controlled {
	quiet := time.AfterFunc(quietTime, keepSmall)
	quiet.Stop()
	context.AfterFunc(ctx, func() { quiet.Stop() })
	return controlled{vm, stop, quiet}
}

func (c controlled) About() account.Machine {
	c.quiet.Reset(quietTime)
	return c.vm.About()
}

func (c controlled) Report() (*account.Report, error) {
	c.quiet.Reset(quietTime)
	return c.vm.Report()
}

func (c controlled) Stop(now bool) { c.stop(now) }

func (c controlled) Tune(t config.Tuning) error { return c.vm.Tune(t) }

func (c controlled) Rescan() ([]account.DiskSize, error) { return c.vm.Rescan() }
