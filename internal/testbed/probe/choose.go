package probe

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"minivmm/guestimages/cache"
)

// ModeEnv names the environment variable that chooses where tests run: "auto", "direct" or
// "emulated".
const ModeEnv = "MINIVMM_TEST_HOST"

// needed are the device files that tests require. If one cannot be opened, tryDirect starts no
// guest.
var needed = []string{"/dev/kvm", "/dev/vhost-net", "/dev/vhost-scsi"}

// Choice is the place where tests run.
type Choice struct {
	Direct bool   // on this computer, not in the emulated host
	Why    string // the reason, for a log line
}

func (c Choice) String() string {
	if c.Direct {
		return "running directly on this machine: " + c.Why
	}
	return "running in the emulated host: " + c.Why
}

// Choose decides where tests run. The mode comes from ModeEnv or, if that variable is not set, from
// the argument usual. Mode "auto" chooses this computer if the device files exist and a guest
// works: some computers have a /dev/kvm that cannot run a guest. Choose downloads the guest's files
// if c lacks them.
func Choose(ctx context.Context, c *cache.Cache, usual string) (Choice, error) {
	switch mode := cmp.Or(os.Getenv(ModeEnv), usual); mode {
	case "direct":
		return Choice{Direct: true, Why: "requested"}, nil
	case "emulated":
		return Choice{Why: "requested"}, nil
	case "auto":
		return tryDirect(needed, func() error { return tryGuest(ctx, c, limit) }), nil
	default:
		return Choice{}, fmt.Errorf("emuhost: unknown mode %q: want auto, direct or emulated", mode)
	}
}

func tryDirect(devices []string, guest func() error) Choice {
	for _, dev := range devices {
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			return Choice{Why: err.Error()}
		}
		f.Close()
	}
	if err := guest(); err != nil {
		return Choice{Why: fmt.Sprintf("a guest does not work on this machine: %v", err)}
	}
	return Choice{Direct: true, Why: "a guest works here"}
}
