package emuhost

import (
	"context"
	"fmt"
	"os"
)

// ModeEnv names the environment variable that chooses where tests run: "auto", "direct" or
// "emulated".
const ModeEnv = "MINIVMM_TEST_HOST"

// Probe tries to run a real guest on this machine. It returns nil if the guest works.
type Probe func(context.Context) error

// needed are the device files that tests require. If one is missing, no guest is tried.
var needed = []string{"/dev/kvm", "/dev/vhost-net", "/dev/vhost-scsi"}

// Choice is the place where tests run.
type Choice struct {
	Direct bool   // on this machine, not in the emulated host
	Why    string // the reason, for a log line
}

func (c Choice) String() string {
	if c.Direct {
		return "running directly on this machine: " + c.Why
	}
	return "running in the emulated host: " + c.Why
}

// Choose decides where tests run. Mode "auto" means direct if the device files exist and probe
// succeeds: some machines have a /dev/kvm that cannot run a guest.
func Choose(ctx context.Context, mode string, probe Probe) (Choice, error) {
	switch mode {
	case "direct":
		return Choice{Direct: true, Why: "requested"}, nil
	case "emulated":
		return Choice{Why: "requested"}, nil
	case "auto":
		return tryDirect(ctx, needed, probe), nil
	}
	return Choice{}, fmt.Errorf("emuhost: unknown mode %q: want auto, direct or emulated", mode)
}

func tryDirect(ctx context.Context, devices []string, probe Probe) Choice {
	for _, dev := range devices {
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			return Choice{Why: err.Error()}
		}
		f.Close()
	}
	if probe == nil {
		return Choice{Why: "no guest was tried on this machine"}
	}
	if err := probe(ctx); err != nil {
		return Choice{Why: fmt.Sprintf("a guest does not work on this machine: %v", err)}
	}
	return Choice{Direct: true, Why: "a guest works here"}
}
