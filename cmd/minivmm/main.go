package main

import (
	"os"

	"minivmm/vmm"
	"minivmm/vmm/sandbox"
)

func main() {
	os.Exit(execute(newVM, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// realMachine adapts a VM to the machine interface of the runner.
type realMachine struct{ *vmm.VM }

func (m realMachine) ConsoleInput() Input { return m.Console() }

func newVM(plan vmm.Plan, opt vmm.Options) (machine, error) {
	if err := sandbox.Process(); err != nil {
		return nil, err
	}
	vm, err := vmm.New(plan, opt)
	if err != nil {
		return nil, err
	}
	return realMachine{vm}, nil
}
