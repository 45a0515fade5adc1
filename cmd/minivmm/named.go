package main

import (
	"errors"
	"fmt"
	"os"

	"minivmm/vmm"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

// claimName takes the machine's name, by which list, workers and stop find it. A machine that was given none takes its
// process's number into it where another one has the default. Without a place for sockets, nil: the machine runs all the same, and the log says why.
func claimName(cfg *config.Config, anyName bool, logf func(format string, args ...any)) (*control.Name, error) {
	name, err := control.Claim(string(cfg.Name))
	var taken *control.TakenError
	if anyName && errors.As(err, &taken) {
		cfg.Name = config.Name(fmt.Sprintf("%s-%d", cfg.Name, os.Getpid()))
		name, err = control.Claim(string(cfg.Name))
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
	vm   *vmm.VM
	stop func(now bool)
}

func (c controlled) About() account.Machine           { return c.vm.About() }
func (c controlled) Report() (*account.Report, error) { return c.vm.Report() }
func (c controlled) Stop(now bool)                    { c.stop(now) }
