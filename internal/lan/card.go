package lan

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
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

func parseCard(s string) (Card, error) {
	w := append(strings.Fields(s), "", "", "")
	mac, macErr := hex.DecodeString(w[1])
	a, addrErr := netip.ParseAddr(w[2])
	if macErr != nil || addrErr != nil || w[3] != "" || !isName(w[0]) || len(mac) != len(MAC{}) {
		return Card{}, fmt.Errorf("%.200q is not a station", s)
	}
	return Card{w[0], MAC(mac), a}, nil
}

var isName = regexp.MustCompile("^[a-z0-9][a-z0-9-]{0,62}$").MatchString
