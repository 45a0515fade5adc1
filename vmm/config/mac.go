package config

import (
	"encoding/hex"
	"fmt"
)

// MAC is a unicast Ethernet address, written "52:54:00:12:34:56".
type MAC [6]byte

// UnmarshalText reads an address; multicast addresses and the zero address are rejected.
func (m *MAC) UnmarshalText(b []byte) error {
	var v MAC
	if len(b) != 17 {
		return fmt.Errorf(`%s is not a MAC address: write six pairs of hex digits, like "52:54:00:12:34:56"`, quote(string(b)))
	}
	for i := range v {
		_, err := hex.Decode(v[i:i+1], b[3*i:3*i+2])
		if err != nil || i < 5 && b[3*i+2] != ':' {
			return fmt.Errorf(`%s is not a MAC address: write six pairs of hex digits, like "52:54:00:12:34:56"`, quote(string(b)))
		}
	}
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
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText returns the form that UnmarshalText reads.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func (MAC) sample() string { return "52:54:00:12:34:56" }
