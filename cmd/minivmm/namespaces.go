package main

import (
	"errors"

	"minivmm/vmm"
	"minivmm/vmm/config"
	"minivmm/vmm/namespace"
)

// namespacesOf are the namespaces that the configuration asks for.
func namespacesOf(cfg *config.Config) namespace.Set {
	n := cfg.Namespaces
	return namespace.Set{
		Net: string(n.Net), Mount: n.Mount, UTS: n.UTS, Hostname: string(cfg.Name),
		IPC: n.IPC, User: n.User, PID: n.PID,
	}
}

// settle finishes the namespaces of the configuration, if this process is in them. outside says that
// it is not: then it fetches what the guest needs, on the host's network, and goes on in enter.
func (r *runner) settle() (outside bool, err error) {
	set := namespacesOf(r.cfg)
	if !set.Any() {
		return false, nil
	}
	inside, err := set.Inside()
	if err != nil || !inside {
		return true, err
	}
	return false, namespace.Settle(set)
}

// enter begins the program anew in the namespaces. If that takes a process of its own, this one ends
// as that one does.
func (r *runner) enter() error {
	set := namespacesOf(r.cfg)
	if set.User || set.PID {
		// Not by the plan: inside, where there may be other rights, more queues may be possible.
		if err := (&vmm.Plan{Config: *r.cfg}).RoomForProcess(); err != nil {
			return err
		}
		keepSmall() // this process only waits from here on
	}
	code, err := namespace.Enter(set)
	switch {
	case code == exitPoweredOff:
		return err
	case err == nil:
		return quiet{childError{code, errors.New("the process in the namespaces failed")}}
	}
	return childError{code, err}
}
