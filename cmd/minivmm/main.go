package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"minivmm/vmm"
	"minivmm/vmm/config"
)

func main() {
	os.Exit(execute(start, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// start runs a machine until it ends.
func start(ctx context.Context, plan vmm.Plan, opt startOptions) (code int, err error) {
	logf := func(format string, args ...any) { fmt.Fprintf(opt.Log, "minivmm: "+format+"\n", args...) }
	name, err := claimName(string(plan.Name), opt.AnyName, logf)
	if err != nil {
		return exitCode(err), err
	}
	if name != nil {
		plan.Name = config.Name(name.String())
		defer func() {
			if cerr := name.Close(); cerr != nil {
				code, err = exitInternal, errors.Join(err, cerr)
			}
		}()
	}
	vm, err := vmm.New(plan, vmm.Options{Console: opt.Console, Logf: logf, Ports: opt.Ports})
	if err != nil {
		return exitCode(err), err
	}
	defer func() {
		if cerr := vm.Close(); cerr != nil {
			code, err = exitInternal, errors.Join(err, cerr)
		}
	}()
	if opt.Verbose {
		for _, w := range vm.Workers() {
			logf("worker %v", w)
		}
	}
	opt.Attach(attached{vm, logf})
	if name != nil {
		server, err := name.Serve(newControlled(ctx, vm, opt.Stop))
		if err != nil {
			logf("no other program can ask for the workers or stop this machine: %v", err)
		} else {
			defer server.Close()
		}
	}
	go guard(func() { staySmall(ctx) })
	outcome, err := vm.Run(ctx)
	var broken *vmm.KVMError
	switch {
	case errors.As(err, &broken):
		return exitKVM, err
	case err != nil:
		return exitInternal, err
	}
	return outcomeCodes[outcome], nil
}

var outcomeCodes = map[vmm.Outcome]int{
	vmm.PoweredOff: exitPoweredOff,
	vmm.Rebooted:   exitRebooted,
	vmm.Crashed:    exitCrashed,
	vmm.Stopped:    exitStopped,
}

// attached is a running VM as run.go wants it.
type attached struct {
	vm   *vmm.VM
	logf func(format string, args ...any)
}

func (a attached) PowerButton() {
	if err := a.vm.PowerButton(); err != nil {
		a.logf("power button: %v", err)
	}
}

func (a attached) ConsoleInput() Input { return a.vm.Console() }
