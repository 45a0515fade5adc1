package main

import (
	"context"
	"io"

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

// enterNamespaces puts this process into the namespaces of the configuration. If that takes
// a process of its own, left is true: its life is over by now, and code is its exit code.
//
// What a guest needs that is not here yet is fetched before, on the host's network.
func enterNamespaces(ctx context.Context, cfg *config.Config, ports []string, log io.Writer) (left bool, code int, err error) {
	set := namespacesOf(cfg)
	if !set.Any() {
		return false, 0, nil
	}
	inside, err := set.Inside()
	if err != nil {
		return false, 0, err
	}
	if inside {
		return false, 0, namespace.Settle(set)
	}
	plan, _ := vmm.Resolve(cfg, ports...)
	if err := furnishOrSignal(ctx, &plan, log); err != nil {
		return false, 0, err
	}
	if set.User || set.PID {
		if err := plan.RoomForProcess(); err != nil {
			return false, 0, err
		}
		keepSmall() // this process only waits from here on
	}
	code, err = namespace.Enter(set)
	return true, code, err
}
