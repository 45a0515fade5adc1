package config

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPublishedPorts(t *testing.T) {
	for text, want := range map[string]Port{
		"8080:80":               {false, netip.MustParseAddrPort("[::]:8080"), 80},
		"127.0.0.1:2222:22/tcp": {false, netip.MustParseAddrPort("127.0.0.1:2222"), 22},
		"5353:53/udp":           {true, netip.MustParseAddrPort("[::]:5353"), 53},
		"[::1]:65535:65535/udp": {true, netip.MustParseAddrPort("[::1]:65535"), 65535},
		"":                      {}, "80": {}, ":80": {}, "80:": {}, "0:80": {}, "80:0": {}, "65536:1": {}, "080:80": {}, "+80:80": {},
		"80:80/sctp": {}, "80:80/": {}, "::1:80:80": {}, "[::1]:80": {}, "1.2.3:80:80": {}, "host:80:80": {},
		"[fe80::1%eth0]:80:80": {}, "224.0.0.1:80:80": {}, "80-90:80-90": {}, "[::ffff:127.0.0.1]:80:80": {},
	} {
		var got Port
		err := got.UnmarshalText([]byte(text))
		if got != want || (err == nil) != (want != Port{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if err == nil {
			var again Port
			if again.UnmarshalText([]byte(got.String())) != nil || again != got {
				t.Errorf("%q: written as %s, reads as %s", text, got, again)
			}
		}
	}
}

func TestTheKeysOfANetworkInTheProcess(t *testing.T) {
	for _, c := range []struct{ text, problem string }{
		{"backend = 'user'\nports = ['8080:80', '8080:80/udp', '127.0.0.1:2222:22']", ""},
		{"ports = []", ""},
		{"ports = '8080:80'", "net[0].ports wants a list of strings"},
		{"ports = [8080]", "net[0].ports[0] wants a string like \"8080:80\""},
		{"ports = ['8080']", "is not a published port"},
		{"backend = 'user'\ntap = 'tap0'", "net[0].tap is for backend"},
		{"backend = 'user'\nbridge = 'br0'", "net[0].bridge is for backend"},
		{"backend = 'user'\naddress = '10.0.2.1/24'", "net[0].address is for backend"},
		{"backend = 'vhost'\nports = ['8080:80']", "net[0].ports is for backend"},
		{"tap = 'tap0'\nports = ['8080:80']", "cannot have both"},
		{"ports = ['8080:80', '8080:81']", "is published already"},
		{"ports = ['80:80']\n[[net]]\nports = ['80:81']", "is published already"},
	} {
		_, err := parseTest(boot + "[[net]]\n" + c.text)
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s\n%v", c.text, err)
		}
	}
}
