package main

import (
	"minivmm/guestimages/agent"
	"minivmm/kvm"
)

// holdVM keeps one VM open for the whole life of an emulated host if its plan asks for it, and
// returns a function that closes it. KVM patches the scheduler's text when its first VM is created
// and when the last one is closed (preempt_notifier_key). An emulated host with several CPUs can
// crash in the breakpoints of that patching: "Oops: int3" in finish_task_switch.
func holdVM(p agent.Plan) (release func(), err error) {
	if !p.HoldVM {
		return func() {}, nil
	}
	sys, err := kvm.Open()
	if err != nil {
		return nil, err
	}
	defer sys.Close()
	vm, err := sys.CreateVM()
	if err != nil {
		return nil, err
	}
	return func() { vm.Close() }, nil
}
