package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// etc is the folder /etc of the file tree in which the command runs.
type etc struct {
	dir string // "/etc"
	// discard is set if changes to the file tree are lost when the machine ends, as in an overlay.
	discard bool
}

// write writes one file. An image may already contain anything at the file's path: a link to a file
// that only the image's own init creates, a device, a folder. If discard is set, write replaces
// what is there. Otherwise write follows links and creates the missing folders of the link's
// target.
func (e etc) write(name, text string) error {
	path := filepath.Join(e.dir, name)
	if e.discard {
		replaced := path
		if info, err := os.Stat(e.dir); err != nil || !info.IsDir() {
			replaced = e.dir
		}
		if err := os.RemoveAll(replaced); err != nil {
			return err
		}
	}
	path = linkTarget(path)
	if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')+1], 0o755); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "write", Path: path, Err: errors.New("not a regular file")}
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// linkTarget follows the symbolic links at path to a file that need not exist. It does not clean
// the result (filepath.Clean), because ".." after a link means the parent of the folder to which
// the link leads.
func linkTarget(path string) string {
	for range 40 { // the kernel's MAXSYMLINKS
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = path[:strings.LastIndexByte(path, '/')+1] + target
		}
		path = target
	}
	return path
}

// writeResolvConf writes resolv.conf(5), unless the network provides no name server.
func (e etc) writeResolvConf(servers, search []string) error {
	if len(servers) == 0 {
		return nil
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	return e.write("resolv.conf", b.String())
}

// addHosts adds the lines for localhost and for the machine's own name to the hosts(5) file, if
// they are missing.
func (e etc) addHosts(hostname string, ipv6 bool) error {
	path := filepath.Join(e.dir, "hosts")
	var old string
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		old = string(b)
	}
	missing := missingHosts(old, hostname, ipv6)
	if missing == "" {
		return nil
	}
	if old != "" && !strings.HasSuffix(old, "\n") {
		old += "\n"
	}
	return e.write("hosts", old+missing)
}

// missingHosts returns the lines that text, in the format of hosts(5), lacks. Debian uses 127.0.1.1
// for the name of a machine without a permanent address. A kernel without a host name reports
// "(none)".
func missingHosts(text, hostname string, ipv6 bool) string {
	has := map[string]bool{"": true, "(none)": true}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		for _, name := range fields[min(1, len(fields)):] {
			has[strings.ToLower(name)] = true
		}
	}
	var missing string
	if !has["localhost"] {
		missing = "127.0.0.1 localhost\n"
		if ipv6 {
			missing += "::1 localhost ip6-localhost ip6-loopback\n"
		}
		has["localhost"] = true
	}
	if !has[strings.ToLower(hostname)] {
		missing += "127.0.1.1 " + hostname + "\n"
	}
	return missing
}
