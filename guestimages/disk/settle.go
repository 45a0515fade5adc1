package disk

import (
	"bytes"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// networkUnit configures every network card by DHCP, unless systemd-network-generator(8) has
// created a file for that card from the kernel's ip= parameter. The generator's file names start
// with 70 or 71, or in its older versions with 90 or 91. systemd-networkd uses the first file that
// matches.
const networkUnit = `[Match]
Name=en* eth*

[Network]
DHCP=yes
`

// settle configures a newly unpacked Debian: host name, root file system, network and login. It
// also removes leftovers of the installation, such as the host's resolv.conf.
func settle(t *filetree.Tree, uuid, hostname string, sources []source) error {
	for _, p := range []string{"etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/sources.list", "var/lib/dbus/machine-id", "etc/resolv.conf"} {
		t.Remove(p)
	}
	for _, dir := range []string{"etc/apt/sources.list.d", "var/lib/apt/lists", "var/cache/apt/archives/partial"} {
		if n, ok := t.Get(dir); ok {
			t.Remove(dir)
			if err := t.Put(*n, nil); err != nil {
				return err
			}
		}
	}
	files := map[string]string{
		"etc/hostname":                          hostname + "\n",
		"etc/hosts":                             "127.0.0.1 localhost\n127.0.1.1 " + hostname + "\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
		"etc/fstab":                             "UUID=" + uuid + " / ext4 errors=remount-ro 0 1\n",
		"etc/machine-id":                        "",          // systemd creates it at the first boot: machine-id(5)
		"etc/systemd/network/95-dhcp.network":   networkUnit, // sorts after the files of systemd-network-generator(8)
		"etc/apt/sources.list.d/debian.sources": formatSources(withoutSecrets(sources)),
	}
	for _, key := range keyFiles(sources) {
		p := strings.TrimPrefix(key, "/")
		if _, ok := t.Get(p); ok {
			continue
		}
		b, err := os.ReadFile(key)
		if err != nil {
			return err
		}
		files[p] = string(b)
	}
	for p, content := range files {
		if err := putFile(t, p, 0o644, []byte(content)); err != nil {
			return err
		}
	}
	// systemd-resolved resolves names with the servers from DHCP and ip=.
	if err := putLink(t, "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"); err != nil {
		return err
	}
	for _, unit := range []string{"systemd-networkd.service", "systemd-networkd.socket", "systemd-network-generator.service", "systemd-resolved.service"} {
		if err := enable(t, unit); err != nil {
			return err
		}
	}
	return openRoot(t)
}

// getFile returns the regular file at the path p and its content. If there is no regular file at p,
// the returned node is nil.
func getFile(t *filetree.Tree, p string) (*filetree.Node, []byte, error) {
	n, ok := t.Get(p)
	if !ok || n.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, nil
	}
	b, err := n.Content()
	return n, b, err
}

func putFile(t *filetree.Tree, p string, perm uint32, content []byte) error {
	return t.Put(filetree.Node{Path: p, Mode: unix.S_IFREG | perm}, bytes.NewReader(content))
}

func putLink(t *filetree.Tree, p, target string) error {
	return t.Put(filetree.Node{Path: p, Mode: unix.S_IFLNK | 0o777, Target: target}, nil)
}

// unitDir is the folder of the units in packages since Debian 12, where /usr is always merged.
const unitDir = "usr/lib/systemd/system/"

// enable works like "systemctl enable", but ignores Also=: the units that systemd-networkd.service
// names there would make the boot wait for a network. A missing unit is skipped.
func enable(t *filetree.Tree, unit string) error {
	n, b, err := getFile(t, unitDir+unit)
	if n == nil || err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		for word := range strings.FieldsSeq(value) {
			p := "etc/systemd/system/" + word
			switch key {
			case "WantedBy":
				p += ".wants/" + unit
			case "Alias":
			default:
				continue
			}
			if err := putLink(t, p, "/"+unitDir+unit); err != nil {
				return err
			}
		}
	}
	return nil
}

// openRoot unlocks the root account if it has no password (shadow(5)), so that root can log in.
func openRoot(t *filetree.Tree) error {
	n, b, err := getFile(t, "etc/shadow")
	if err == nil && n == nil {
		err = errors.New("disk: the installed Debian has no /etc/shadow")
	}
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(b), "\n")
	for i, line := range lines {
		f := strings.Split(line, ":")
		if f[0] == "root" && len(f) > 2 && (f[1] == "*" || strings.HasPrefix(f[1], "!")) {
			f[1] = ""
			lines[i] = strings.Join(f, ":")
		}
	}
	n.Link = ""
	return t.Put(*n, strings.NewReader(strings.Join(lines, "")))
}
