package vmm

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"minivmm/vmm/config"
)

// TestResolveLeavesNothingOpen checks what replaces "auto" in a plan, where that does not depend on
// the host.
func TestResolveLeavesNothingOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := fmt.Sprintf("[[disk]]\npath = %q\n", path)
	for _, tt := range []struct {
		text  string
		image config.Image
		want  string // backends and queues
		notes []string
	}{
		{"[[net]]\nports = ['8080:80']\nqueues = 'auto'\nbusy_poll = '5us'\n", "", "net0 user 1", []string{
			"net0: backend user: it publishes ports",
			"net0: one queue pair instead of 4: its network is in this process",
			"net0: affinity and busy_poll have no effect: they apply to kernel workers, and this network is in this process"}},
		{"[[net]]\nbridge = 'br0'\nqueues = 'auto'\n[[net]]\nbackend = 'user'\n", "", "net0 vhost 4, net1 user 1", nil},
		{"[[net]]\nbackend = 'vhost'\nqueues = 2\ntap = 'mvm-none'\n", "", "net0 vhost 2", nil},
		{"[scsi]\nqueues = 'auto'\n" + disk + "backend = 'inprocess'\n", "", "disk0 inprocess 4", nil},
		{disk + "backend = 'vhost-scsi'\n", "", "disk0 vhost-scsi 1", nil},
		{disk + "backend = 'inprocess'\n", "/image", "image inprocess 1, disk0 inprocess 1", nil},
	} {
		cfg, err := config.Parse("/test.toml", []byte("[boot]\nkernel = '/proc/self/exe'\n[machine]\nvcpus = 4\nnotify = 'ports'\n"+tt.text))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Image = tt.image
		before := string(cfg.TOML())
		p, notes := Resolve(cfg)
		var got []string
		for _, n := range p.Net {
			got = append(got, fmt.Sprintf("%s %s %v", n.ID, n.Backend, n.Queues))
		}
		for _, d := range p.Disk {
			got = append(got, fmt.Sprintf("%s %s %v", d.ID, d.Backend, p.SCSI.Queues))
		}
		if list := strings.Join(got, ", "); list != tt.want || !slices.Equal(notes, tt.notes) || p.Machine.Notify != config.NotifyPorts {
			t.Errorf("%s: %s, notify %s, notes %q; want %s, %q", tt.text, list, p.Machine.Notify, notes, tt.want, tt.notes)
		}
		if after := string(cfg.TOML()); after != before {
			t.Errorf("%s: the caller's configuration was changed to\n%s", tt.text, after)
		}
	}
	if p, _ := Resolve(&config.Config{Machine: config.Machine{Notify: config.NotifyAuto}}); p.Machine.Notify == config.NotifyAuto {
		t.Error("notify is still auto")
	}
}

// TestEveryDeviceIsInTheList checks the list of devices, and the number of threads for their
// workers.
func TestEveryDeviceIsInTheList(t *testing.T) {
	for _, tc := range []struct {
		nets, disks, ports int
		want               string // devices
		threads            int    // for workers
	}{
		{0, 0, 0, "rng0", 0},
		{1, 0, 0, "net0 rng0", 2},
		{0, 64, 0, "scsi0 rng0", 3},
		{0, 0, 1, "console0 rng0", 0},
		{2, 1, 3, "net0 net1 scsi0 console0 rng0", 7},
	} {
		p := Plan{Config: config.Config{Disk: make([]config.Disk, tc.disks), SCSI: config.SCSI{Queues: 3}}, Ports: make([]string, tc.ports)}
		idle := p.threads()
		if tc.disks > 0 {
			idle -= 3
		}
		for i := range tc.nets {
			p.Net = append(p.Net, config.Net{ID: config.Name(fmt.Sprintf("net%d", i)), Queues: 2})
		}
		var names []string
		for _, d := range p.devices() {
			names = append(names, d.name)
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("devices %s, want %s", got, tc.want)
		}
		if got := p.threads() - idle; got != tc.threads {
			t.Errorf("%s: %d threads for workers, want %d", tc.want, got, tc.threads)
		}
	}
}

func TestAutoPrefersVhost(t *testing.T) {
	no := errors.New("/dev/vhost-net: no such file or directory")
	for name, c := range map[string]struct {
		net      config.Net
		obstacle error
		want     config.NetBackend
		why      string
	}{
		"all there":       {config.Net{}, nil, config.NetVhost, ""},
		"no vhost":        {config.Net{}, no, config.NetUser, no.Error()},
		"ports":           {config.Net{Ports: []config.Port{{Guest: 80}}}, nil, config.NetUser, "it publishes ports"},
		"isolated":        {config.Net{Network: config.Isolated}, nil, config.NetUser, "it is isolated"},
		"a network":       {config.Net{Network: "lab"}, nil, config.NetUser, "it is on network lab"},
		"a policy":        {config.Net{Deny: []config.Destination{{Host: "x"}}}, nil, config.NetUser, "it has allow, deny or dns rules"},
		"a capture":       {config.Net{Pcap: "/x"}, nil, config.NetUser, "its packets are captured"},
		"a given tap":     {config.Net{Tap: "tap0"}, no, config.NetVhost, ""},
		"a bridge":        {config.Net{Bridge: "br0"}, no, config.NetVhost, ""},
		"a tap's address": {config.Net{Address: config.CIDR{Prefix: netip.MustParsePrefix("10.0.0.1/24")}}, no, config.NetVhost, ""},
	} {
		if got, why := chooseNet(&c.net, func() error { return c.obstacle }); got != c.want || why != c.why {
			t.Errorf("%s: %s: %s", name, got, why)
		}
	}
}
