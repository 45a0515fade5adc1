package vmm

import (
	"errors"
	"net/netip"
	"testing"

	"minivmm/vmm/config"
)

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
