package disk

import (
	"strings"
	"testing"

	"minivmm/guestimages/filetree"
)

func TestSettle(t *testing.T) {
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for p, content := range map[string]string{
		"etc/shadow":                              "root:*:20000::::::\ndaemon:*:20000::::::\n",
		"etc/apt/apt.conf.d/99mmdebstrap":         "Acquire::http::Proxy \"http://u:secret@proxy\";\n",
		"etc/apt/sources.list.d/0000main.sources": "URIs: http://u:secret@mirror/debian\n",
		"var/lib/apt/lists/mirror_Packages":       "x",
		unitDir + "systemd-networkd.service":      "[Install]\nWantedBy=multi-user.target\nAlso=systemd-networkd-wait-online.service\n",
	} {
		if err := putFile(tree, p, 0o640, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	sources := []source{{{"Types", "deb"}, {"URIs", "http://u:secret@mirror/debian"}, {"Suites", "bookworm"}, {"Components", "main"}}}
	const uuid = "12345678-1234-4234-8234-123456789abc"
	if err := settle(tree, uuid, "web", sources); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"etc/hostname":                          "web\n",
		"etc/fstab":                             "UUID=" + uuid + " / ext4 errors=remount-ro 0 1\n", // not the label: every Debian disk of the machine has the same
		"etc/shadow":                            "root::20000::::::\ndaemon:*:20000::::::\n",
		"etc/machine-id":                        "",
		"etc/apt/sources.list.d/debian.sources": "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm\nComponents: main\n",
	} {
		n, ok := tree.Get(p)
		if !ok {
			t.Errorf("%s is missing", p)
			continue
		}
		if b, err := n.Content(); err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v, want %q", p, b, err, want)
		}
	}
	if n, _ := tree.Get("etc/shadow"); n.Mode&0o777 != 0o640 {
		t.Errorf("etc/shadow has mode %o", n.Mode)
	}
	if n, ok := tree.Get("etc/systemd/system/multi-user.target.wants/systemd-networkd.service"); !ok || n.Target != "/"+unitDir+"systemd-networkd.service" {
		t.Errorf("systemd-networkd is not enabled: %v", n)
	}
	for n := range tree.All() {
		if n.Mode&0o170000 != 0o100000 {
			continue
		}
		if strings.HasPrefix(n.Path, "var/lib/apt/lists/") {
			t.Errorf("%s was not removed", n.Path)
		}
		if b, err := n.Content(); err != nil || strings.Contains(string(b), "secret") {
			t.Errorf("%s: %q, %v", n.Path, b, err)
		}
	}
}
