package lan

import (
	"fmt"
	"net/netip"
	"strings"
)

// Card identifies a station to the other stations of a network.
type Card struct {
	Name string // 1 to 63 characters from a-z, 0-9 and '-', without '-' at the start; unique
	MAC  MAC    // unique
	Addr netip.Addr
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) group() bool { return m[0]&1 != 0 }

// String returns the card as one line, without newline.
func (c Card) String() string { return fmt.Sprintf("%s %x %s", c.Name, c.MAC, c.Addr) }

func parseCard(s string) (c Card, err error) {
	w := strings.Fields(s)
	var mac []byte
	if len(w) == 3 {
		c.Name = w[0]
		_, err = fmt.Sscanf(w[1], "%x", &mac)
		if err == nil {
			c.Addr, err = netip.ParseAddr(w[2])
		}
	}
	if err != nil || !isName(c.Name) || len(mac) != len(c.MAC) || !c.Addr.IsValid() {
		return Card{}, fmt.Errorf("%.200q is not a station", s)
	}
	copy(c.MAC[:], mac)
	return c, nil
}

func isName(s string) bool {
	for i := range len(s) {
		if b := s[i]; !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-' && i > 0) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}
