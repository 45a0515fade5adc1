package usernet

import (
	"net/netip"
	"os"
	"strings"
)

const dnsPort = 53

// fallbackResolver is the default of resolv.conf(5) for a file without name servers.
var fallbackResolver = netip.MustParseAddr("127.0.0.1")

// resolvConf is the part of the file that a guest needs.
type resolvConf struct {
	servers []netip.Addr // at least one
	search  []string
}

// maxSearch limits the total length of a search list, which must fit into one packet.
const maxSearch = 1000

// maxResolvConf limits how many bytes of the file are read.
const maxResolvConf = 64 << 10

// readResolvConf reads a resolv.conf(5). It ignores lines that it does not understand.
func readResolvConf(name string) resolvConf {
	text, _ := os.ReadFile(name)
	return parseResolvConf(string(text[:min(len(text), maxResolvConf)]))
}

func parseResolvConf(text string) (c resolvConf) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil && len(c.servers) < 3 { // MAXNS of resolv.h
				c.servers = append(c.servers, a)
			}
		case "domain", "search": // the last line wins
			c.search = nil
			size := 0
			for _, d := range fields[1:] {
				d = strings.TrimSuffix(d, ".")
				if isDomain(d) && len(c.search) < 6 && size+len(d) <= maxSearch {
					c.search = append(c.search, d)
					size += len(d)
				}
			}
		}
	}
	if len(c.servers) == 0 {
		c.servers = []netip.Addr{fallbackResolver}
	}
	return c
}

// isDomain reports whether a name fits into a DHCP option.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, r := range label {
			if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return false
			}
		}
	}
	return true
}
