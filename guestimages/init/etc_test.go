package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFileOfEtcIsWritten writes resolv.conf over various files that images have in its place.
func TestFileOfEtcIsWritten(t *testing.T) {
	link := func(t *testing.T, target, name string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		make    func(t *testing.T, root string)
		kept    string // the file that contains the text in a tree without discard; "" for an error
		refused bool
	}{
		{"nothing", func(*testing.T, string) {}, "etc/resolv.conf", false},
		{"a dangling link", func(t *testing.T, root string) {
			link(t, "../run/systemd/resolve/stub-resolv.conf", root+"/etc/resolv.conf")
		}, "run/systemd/resolve/stub-resolv.conf", false},
		{"an absolute dangling link", func(t *testing.T, root string) {
			link(t, root+"/run/resolvconf/resolv.conf", root+"/etc/resolv.conf")
		}, "run/resolvconf/resolv.conf", false},
		{"a link over a linked folder", func(t *testing.T, root string) {
			if err := os.MkdirAll(root+"/usr/share", 0o755); err != nil {
				t.Fatal(err)
			}
			link(t, root+"/usr/share", root+"/share")
			link(t, "../share/../a/resolv.conf", root+"/etc/resolv.conf")
		}, "usr/a/resolv.conf", false},
		{"a link to itself", func(t *testing.T, root string) { link(t, "resolv.conf", root+"/etc/resolv.conf") }, "", true},
		{"a device", func(t *testing.T, root string) { link(t, "/dev/null", root+"/etc/resolv.conf") }, "", true},
		{"a folder", func(t *testing.T, root string) {
			if err := os.MkdirAll(root+"/etc/resolv.conf/d", 0o755); err != nil {
				t.Fatal(err)
			}
		}, "", true},
		{"a read-only file", func(t *testing.T, root string) {
			if err := os.MkdirAll(root+"/etc", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(root+"/etc/resolv.conf", []byte("nameserver 192.0.2.1\n"), 0o444); err != nil {
				t.Fatal(err)
			}
		}, "etc/resolv.conf", false},
		{"/etc is a dangling link", func(t *testing.T, root string) { link(t, "nowhere", root+"/etc") }, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const want = "nameserver 192.0.2.53\nsearch lan\n"
			for _, discard := range []bool{true, false} {
				root := t.TempDir()
				tt.make(t, root)
				err := etc{root + "/etc", discard}.writeResolvConf([]string{"192.0.2.53"}, []string{"lan"})
				if discard && err != nil || !discard && (err != nil) != tt.refused {
					t.Errorf("discard %v: %v", discard, err)
				}
				place := tt.kept
				if discard {
					place = "etc/resolv.conf"
				}
				if place == "" {
					continue
				}
				b, err := os.ReadFile(filepath.Join(root, place))
				if err != nil || string(b) != want {
					t.Errorf("discard %v: %s contains %q, %v", discard, place, b, err)
				}
			}
		})
	}
}

func TestMissingHostsAreAdded(t *testing.T) {
	const both = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 web1\n"
	for _, tt := range []struct{ name, old, hostname, want string }{
		{"no file", "", "web1", both},
		{"no newline at the end", "192.0.2.1 web2", "web1", "192.0.2.1 web2\n" + both},
		{"only comments", "# 127.0.0.1 localhost web1\n", "web1", "# 127.0.0.1 localhost web1\n" + both},
		{"only the name is missing", "127.0.0.1\tlocalhost\n", "web1", "127.0.0.1\tlocalhost\n127.0.1.1 web1\n"},
		{"nothing is missing", "::1 LocalHost # x\n192.0.2.7 a Web1", "web1", "::1 LocalHost # x\n192.0.2.7 a Web1"},
		{"the kernel has no name", "127.0.0.1 localhost\n", "(none)", "127.0.0.1 localhost\n"},
		{"the machine is called localhost", "", "localhost", both[:len(both)-len("127.0.1.1 web1\n")]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "hosts")
			if tt.old != "" {
				if err := os.WriteFile(file, []byte(tt.old), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := (etc{dir, true}).addHosts(tt.hostname, true); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != tt.want {
				t.Errorf("got %q, %v, want %q", b, err, tt.want)
			}
		})
	}
	if got := missingHosts("", "web1", false); got != "127.0.0.1 localhost\n127.0.1.1 web1\n" {
		t.Errorf("without IPv6: %q", got)
	}
}
