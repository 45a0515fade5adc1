package config

import (
	"fmt"
	"net"
)

// MAC is a unicast Ethernet address, written "52:54:00:12:34:56".
type MAC [6]byte

// UnmarshalText reads an address; multicast addresses and the zero address are rejected.
func (m *MAC) UnmarshalText(b []byte) error {
	hw, err := net.ParseMAC(string(b))
	if err != nil || len(hw) != len(m) || b[2] != ':' { // ParseMAC also accepts longer addresses, and - and .
		return fmt.Errorf(`%s is not a MAC address: write six pairs of hex digits, like "52:54:00:12:34:56"`, quote(string(b)))
	}
	v := MAC(hw)
	if v[0]&1 != 0 {
		return fmt.Errorf("MAC address %s is a multicast address: the lowest bit of the first byte must be 0", quote(string(b)))
	}
	if v == (MAC{}) {
		return fmt.Errorf("MAC address %s is all zeros", quote(string(b)))
	}
	*m = v
	return nil
}

// String returns the address with lower case digits and colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText returns the form that UnmarshalText reads.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }
