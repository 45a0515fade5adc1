package main

import (
	"errors"

	"minivmm/vmm"
	"minivmm/vmm/config"
	"minivmm/vmm/namespace"
)

// namespacesOf returns the namespaces that the configuration requests.
func namespacesOf(cfg *config.Config) namespace.Set {
	n := cfg.Namespaces
	return namespace.Set{
		Net: string(n.Net), Mount: n.Mount, UTS: n.UTS, Hostname: string(cfg.Name),
		IPC: n.IPC, User: n.User, PID: n.PID,
	}
}

// settle sets up the configured namespaces if this process is inside them. Otherwise outside is
// true: this process fetches the guest's images on the host's network, and then calls enter.
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

// enter runs the program again inside the namespaces. If that requires a child process, this
// process exits as the child does.
func (r *runner) enter() error {
	set := namespacesOf(r.cfg)
	if set.User || set.PID {
		// Based on the configuration, not on the plan: the process inside may have other privileges
		// and so more queues.
		if err := (&vmm.Plan{Config: *r.cfg}).RoomForProcess(); err != nil {
			return err
		}
		keepSmall() // from here on this process only waits
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
