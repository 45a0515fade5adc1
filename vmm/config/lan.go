package config

import (
	"fmt"
	"io/fs"
)

// Isolated is the value of Net.Network for a guest that reaches only its gateway.
const Isolated Name = "isolated"

const (
	maxRules    = 256
	minFileSize = 64 << 10
)

// userKeys are the keys of [[net]] that require backend "user".
var userKeys = []string{"ports", "network", "allow", "deny", "dns", "pcap", "pcap_size"}

// User returns why the device requires backend "user", or "" if it does not.
func (n *Net) User() string {
	switch {
	case len(n.Ports) > 0:
		return "it publishes ports"
	case n.Network == Isolated:
		return "it is isolated"
	case n.Network != "":
		return fmt.Sprintf("it is on network %s", n.Network)
	case len(n.Allow) > 0 || len(n.Deny) > 0 || n.DNS != "" && n.DNS != DNSAuto:
		return "it has allow, deny or dns rules"
	case n.Pcap != "":
		return "its packets are captured"
	}
	return ""
}

// lans reports keys that have no effect. It also reports two devices of the machine on the same
// named network, because both devices would have the same station name.
func (c *checker) lans(nets []Net) {
	networks, captures := map[Name]int{}, map[Path]int{}
	for i := range nets {
		n, p := &nets[i], path("net").index(i)
		if n.Network != "" && n.Network != Isolated {
			if first, twice := taken(networks, n.Network, i); twice {
				c.bad(p.key("network"), "net[%d] is already on network %q", first, n.Network)
			}
		}
		for _, k := range []string{"allow", "deny"} {
			q, rules := p.key(k), n.Allow
			if k == "deny" {
				rules = n.Deny
			}
			c.atMost(q, len(rules), maxRules)
			if c.set(q) && len(rules) == 0 {
				c.add(c.at(q), `%s is empty: remove it, or set network = "isolated" for a guest that may not connect anywhere`, q)
			}
			if n.Network == Isolated && len(rules) > 0 {
				c.add(later(c.keyAt(q), c.at(p.key("network"))), "%s has no effect on an isolated guest, which cannot connect anywhere", q)
			}
		}
		if q := p.key("dns"); n.Network == Isolated && c.given[q] {
			c.add(later(c.keyAt(q), c.at(p.key("network"))), "%s has no effect on an isolated guest, for which no names are resolved", q)
		}
		c.capture(captures, n, i, p)
	}
}

// capture checks the capture file of the network device n.
func (c *checker) capture(seen map[Path]int, n *Net, i int, p path) {
	size, q := p.key("pcap_size"), p.key("pcap")
	if n.Pcap == "" {
		if c.given[size] && !c.given[q] {
			c.add(c.keyAt(size), "%s requires pcap, which is not set", size)
		}
		return
	}
	if c.set(size) {
		c.fileSize(size, n.PcapSize)
	}
	if first, twice := taken(seen, n.Pcap, i); twice {
		c.bad(q, "%s is already used by net[%d]", quote(string(n.Pcap)), first)
		return
	}
	c.output(q, n.Pcap, func(info fs.FileInfo) bool { return !isRegular(info) }, "not a regular file")
}
