package main

import (
	"net/netip"
	"strings"
	"testing"

	"minivmm/vmm/config"
)

func TestGuestAddressMatchesTheHosts(t *testing.T) {
	for _, tt := range []struct {
		index     int
		net       config.Net
		user      config.Cmdline
		want, why string
	}{
		{0, at("10.0.2.1/24"), "", "ip=10.0.2.2::10.0.2.1:255.255.255.0::eth0:off", "the next address"},
		{1, at("10.0.2.1/24"), "", "ip=10.0.2.2:::255.255.255.0::eth1:off", "one default route"},
		{0, at("10.0.2.254/24"), "", "ip=10.0.2.253::10.0.2.254:255.255.255.0::eth0:off", "not the broadcast address"},
		{0, at("10.0.2.2/30"), "", "ip=10.0.2.1::10.0.2.2:255.255.255.252::eth0:off", "the same"},
		{0, at("255.255.255.254/24"), "", "ip=255.255.255.253::255.255.255.254:255.255.255.0::eth0:off", "no next address"},
		{0, at("10.0.2.0/31"), "", "ip=10.0.2.1::10.0.2.0:255.255.255.254::eth0:off", "two addresses"},
		{0, at("10.0.2.1/31"), "", "ip=10.0.2.0::10.0.2.1:255.255.255.254::eth0:off", "two addresses"},
		{0, at("10.0.2.1/32"), "", "", "one address"},
		{0, at("fd00::1/64"), "", "", "no IPv6"},
		{0, config.Net{}, "", "", "a network without the host"},
		{2, config.Net{Tap: "tap0"}, "", "ip=:::::eth2:dhcp", "a network that others configured"},
		{0, config.Net{Bridge: "br0"}, "quiet", "ip=:::::eth0:dhcp", "a network that others configured"},
		{0, config.Net{Bridge: "br0"}, "ip=10.0.0.2:::255.0.0.0", "", "the user set ip="},
	} {
		if got := strings.Join(addressWord(tt.index, tt.net, tt.user), " "); got != tt.want {
			t.Errorf("%s: %v: got %q, want %q", tt.why, tt.net.Address, got, tt.want)
		}
	}
}

func at(address string) config.Net {
	return config.Net{Address: config.CIDR{Prefix: netip.MustParsePrefix(address)}}
}
