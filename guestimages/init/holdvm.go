package main

import (
	"minivmm/guestimages/agent"
	"minivmm/kvm"
)

// holdVM keeps one VM open for the whole life of an emulated host, whose plan says so, and returns how to close it. KVM patches the scheduler's text when its
// first VM comes and when the last one goes (preempt_notifier_key), and an emulated host of several CPUs can die of the
// breakpoints that are part of it: "Oops: int3" in finish_task_switch.
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
