package config

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPublishedPorts(t *testing.T) {
	for text, want := range map[string]Port{
		"8080:80":               {false, netip.MustParseAddrPort("[::]:8080"), 80, 0},
		"127.0.0.1:2222:22/tcp": {false, netip.MustParseAddrPort("127.0.0.1:2222"), 22, 0},
		"5353:53/udp":           {true, netip.MustParseAddrPort("[::]:5353"), 53, 0},
		"[::1]:65535:65535/udp": {true, netip.MustParseAddrPort("[::1]:65535"), 65535, 0},
		"":                      {}, "80": {}, ":80": {}, "80:": {}, "0:80": {}, "80:0": {}, "65536:1": {}, "080:80": {}, "+80:80": {},
		"80:80/sctp": {}, "80:80/": {}, "::1:80:80": {}, "[::1]:80": {}, "1.2.3:80:80": {}, "host:80:80": {},
		"[fe80::1%eth0]:80:80": {}, "224.0.0.1:80:80": {}, "[::ffff:127.0.0.1]:80:80": {},
	} {
		var got Port
		err := got.UnmarshalText([]byte(text))
		if got != want || (err == nil) != (want != Port{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if err == nil {
			var again Port
			if again.UnmarshalText([]byte(got.String())) != nil || again != got {
				t.Errorf("%q: parsed to %s, which parses to %s", text, got, again)
			}
		}
	}
}

func TestKeysOfAUserNetwork(t *testing.T) {
	for _, c := range []struct{ text, problem string }{
		{"backend = 'user'\nports = ['8080:80', '8080:80/udp', '127.0.0.1:2222:22']", ""},
		{"ports = []", ""},
		{"ports = '8080:80'", "net[0].ports must be a list of strings"},
		{"ports = [8080]", "net[0].ports[0] must be a string like \"8080:80\""},
		{"ports = ['8080']", "is not a published port"},
		{"backend = 'user'\ntap = 'tap0'", "net[0].tap applies only to backend"},
		{"backend = 'user'\nbridge = 'br0'", "net[0].bridge applies only to backend"},
		{"backend = 'user'\naddress = '10.0.2.1/24'", "net[0].address applies only to backend"},
		{"backend = 'vhost'\nports = ['8080:80']", "net[0].ports applies only to backend"},
		{"tap = 'tap0'\nports = ['8080:80']", "cannot have both"},
		{"ports = ['8080:80', '8080:81']", "is already published"},
		{"ports = ['8000-8009:1-10', '8009:80']", "port [::]:8009 is already published"},
		{"ports = ['127.0.0.1:80:80', '80:81']", "is already published"},
		{"ports = ['0.0.0.0:80:80', '127.0.0.1:80:81']", "is already published"},
		{"ports = ['127.0.0.1:80:80', '127.0.0.2:80:80', '[::1]:80:80', '80:80/udp']", ""},
		{"ports = ['1000-2024:1000-2024']", "1025 ports are too many: at most 1024"},
		{"ports = ['8000-8010:80']", "maps 11 host ports to 1 guest ports"},
		{"backend = 'vhost'\nnetwork = 'lab'", "net[0].network applies only to backend"},
		{"tap = 'tap0'\nallow = ['10.0.0.0/8']", "cannot have both tap and allow"},
		{"network = 'lab'\nallow = ['10.0.0.0/8', '127.0.0.1', '*.example.com']\ndeny = ['::/0']", ""},
		{"network = 'isolated'\nports = ['80:80']", ""},
		{"network = 'isolated'\ndeny = ['::/0']", "no effect on an isolated guest"},
		{"network = 'isolated'\ndns = 'on'", "no effect on an isolated guest"},
		{"tap = 'tap0'\ndns = 'off'", "cannot have both tap and dns"},
		{"dns = 'no'", `net[0].dns`},
		{"network = 'lab'\n[[net]]\nnetwork = 'lab'", "net[0] is already on network \"lab\""},
		{"allow = []", "net[0].allow is empty: remove it"},
		{"network = 'Lab'", "is not a valid name"},
		{"deny = ['10.0.0.1/8']", "has host bits set: write \"10.0.0.0/8\" for the network, or \"10.0.0.1\""},
		{"deny = ['10.0.0']", "is not a network, an address or a host name"},
		{"deny = ['::ffff:10.0.0.0/104']", "write it as IPv4"},
		{"deny = ['fe80::1%eth0']", "has a zone"},
		{"deny = ['*.*.x']", "is not a network, an address or a host name"},
		{"pcap = 'nowhere/x.pcap'", "/vm/nowhere"},
		{"pcap = 'vmlinuz'", "net[0].pcap: \"/vm/vmlinuz\" is also boot.kernel and"},
		{"pcap = 'x'\n[console]\nmode = 'file'\npath = 'x'", "is also console.path and"},
		{"pcap_size = '1M'", "net[0].pcap_size requires pcap"},
		{"pcap = 'x.pcap'\npcap_size = '1K'", "too small: at least 64K"},
		{"pcap = 'x.pcap'\n[[net]]\npcap = 'x.pcap'", "is already used by net[0]"},
		{"ports = ['80:80']\n[[net]]\nports = ['80:81']", "is already published"},
	} {
		_, err := parseTest(boot + "[[net]]\n" + c.text)
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s\n%v", c.text, err)
		}
	}
}
