package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"minivmm/guestimages/agent"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestAddressesOnTheKernelCommandLine(t *testing.T) {
	words := splitWords("console=ttyS0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth1:off ip=192.0.2.7:::255.255.255.128 ip=dhcp " +
		"ip=:::::eth2:dhcp ip=192.0.2.8:::255.255.255.0::eth3:off:192.0.2.53 -- sh ip=9.9.9.9:::255.0.0.0\n")
	got, err := words.interfaces()
	if err != nil {
		t.Fatal(err)
	}
	want := []netInterface{
		{name: "eth1", address: netip.MustParsePrefix("10.0.2.15/24"), gateway: "10.0.2.2"},
		{name: "eth0", address: netip.MustParsePrefix("192.0.2.7/25")},
		{name: "eth0", dhcp: true},
		{name: "eth2", dhcp: true},
		{name: "eth3", address: netip.MustParsePrefix("192.0.2.8/24"), nameservers: []string{"192.0.2.53"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{"off", "10.0.0.1", "10.0.0.1:::255.0.255.0", "10.0.0.1:::x", "x:::255.0.0.0", "::1:::255.0.0.0", ""} {
		if got, err := parseIP(bad); err == nil {
			t.Errorf("ip=%s was read as %+v", bad, got)
		}
	}
}

func TestModuleParametersAreTheModulesOwn(t *testing.T) {
	words := splitWords("root=/dev/a.b virtio_mmio.device=4K@0xd0000000:5 virtio-mmio.device=4K@0xd0001000:6 kvm.x=1")
	if got, want := words.parameters("virtio_mmio"), "device=4K@0xd0000000:5 device=4K@0xd0001000:6"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := words.parameters("tun"); got != "" {
		t.Errorf("tun got %q", got)
	}
}

func TestLastWordCounts(t *testing.T) {
	words := splitWords("minivmm.end=poweroff minivmm.end=restart minivmm.endless=1")
	if got := words.value("minivmm.end"); got != "restart" {
		t.Errorf("got %q", got)
	}
}

func TestPowerKeyIsFoundInTheBitmap(t *testing.T) {
	for bitmap, want := range map[string]bool{
		"10000000000000 0\n":   true, // KEY_POWER is bit 52 of the second word
		"10000000000000":       false,
		"1 10000000000000 0\n": true,
		"0 0\n":                false,
		"x 0":                  false,
		"":                     false,
	} {
		if got := hasKey(bitmap, keyPower); got != want {
			t.Errorf("%q: got %v", bitmap, got)
		}
	}
}

func TestOnlyThePressOfTheKeyCounts(t *testing.T) {
	event := func(typ, code uint16, value uint32) []byte {
		b := make([]byte, 24)
		binary.NativeEndian.PutUint16(b[16:], typ)
		binary.NativeEndian.PutUint16(b[18:], code)
		binary.NativeEndian.PutUint32(b[20:], value)
		return b
	}
	others := bytes.Join([][]byte{event(0, 0, 0), event(1, keyPower, 0), event(1, 30, 1), event(2, keyPower, 1)}, nil)
	if waitKey(bytes.NewReader(others), keyPower) {
		t.Error("another event was taken for the key")
	}
	if !waitKey(bytes.NewReader(append(others, event(1, keyPower, 1)...)), keyPower) {
		t.Error("the key press was not seen")
	}
}

func TestDefaultRouteIsAWholeMessage(t *testing.T) {
	b := defaultRoute([4]byte{10, 0, 2, 2})
	if got := binary.NativeEndian.Uint32(b); int(got) != len(b) || len(b)%4 != 0 {
		t.Errorf("the message announces %d bytes and has %d", got, len(b))
	}
	if !bytes.HasSuffix(b, []byte{10, 0, 2, 2}) {
		t.Errorf("the gateway is not at the end: %x", b)
	}
}

func TestLeaseBecomesAnInterface(t *testing.T) {
	ack, err := dhcpv4.New(
		dhcpv4.WithYourIP(net.IPv4(10, 0, 2, 15)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 0, 2, 2), net.IPv4(10, 0, 2, 4)),
		dhcpv4.WithDNS(net.IPv4(10, 0, 2, 3)),
		dhcpv4.WithOption(dhcpv4.OptDomainName("lan")),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := netInterface{name: "eth0", address: netip.MustParsePrefix("10.0.2.15/24"), gateway: "10.0.2.2", nameservers: []string{"10.0.2.3"}}
	if got := leased("eth0", ack); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := searchList(ack); !slices.Equal(got, []string{"lan"}) {
		t.Errorf("search list %q", got)
	}
}

func TestModuleIsAskedForByDeviceAndByName(t *testing.T) {
	m := agent.Module{Name: "virtio_scsi", Aliases: []string{"virtio:d00000008v*", "fs-scsi", "bad[pattern"}}
	for alias, want := range map[string]bool{
		"virtio:d00000008v00001AF4": true, "virtio:d00000001v00001AF4": false, "virtio-scsi": true, "virtio_scsi": true, "fs-scsi": true, "fs-ext4": false,
	} {
		if got := asked(m, alias); got != want {
			t.Errorf("%s: got %v", alias, got)
		}
	}
}

func TestOneBadAddressDoesNotTakeTheOthersAlong(t *testing.T) {
	got, err := splitWords("ip=nonsense ip=192.0.2.7:::255.255.255.128 ip=::1:::255.0.0.0").interfaces()
	if want := []netInterface{{name: "eth0", address: netip.MustParsePrefix("192.0.2.7/25")}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "ip=nonsense: ") || !strings.Contains(err.Error(), "ip=::1:::255.0.0.0: ") {
		t.Errorf("got %v", err)
	}
}

func TestLastOfReadOnlyAndWritableCounts(t *testing.T) {
	for line, want := range map[string]bool{"root=/dev/sda": true, "ro": false, "rw": true, "ro x rw": true, "rw ro": false, "ro=1": true} {
		if got := splitWords(line).root().writable; got != want {
			t.Errorf("%s: got %v", line, got)
		}
	}
}

func TestServerOfLeasesWithoutTimeIsNotAskedWithoutEnd(t *testing.T) {
	for lease, want := range map[time.Duration]time.Duration{0: minRenewal, time.Second: minRenewal, time.Hour: time.Hour / 2} {
		ack, err := dhcpv4.New(dhcpv4.WithLeaseTime(uint32(lease / time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		if got := renewal(ack); got != want {
			t.Errorf("a lease of %v is renewed after %v, want %v", lease, got, want)
		}
	}
}
