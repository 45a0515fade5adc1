package disk

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// DebianOptions describes the Debian installation of an image.
type DebianOptions struct {
	Suite        string            // release, like "bookworm"; "" means the host's release
	Include      []string          // additional packages; those for the console, the network and apt are always installed
	Hostname     string            // "" means "debian"
	RootPassword string            // "": root logs in without a password, on the console only
	Log          func(line string) // is called with each progress line; may be nil
}

// debianPackages are installed in addition to the essential packages and apt: an init that runs the
// console login, name resolution, the network, and the tools that check the root file system.
var debianPackages = []string{"systemd-sysv", "udev", "dbus", "systemd-resolved", "iproute2", "netbase", "kmod", "e2fsprogs", "login", "passwd"}

// debianRoom is the smallest default size of a Debian image, in bytes.
const debianRoom = 2 << 30

// unpackGrace is the time that mmdebstrap has to remove its folder after SIGTERM. This process
// cannot remove the folder: some of its files belong to other users.
const unpackGrace = time.Minute

// Patterns of names.
const (
	packageForm  = `^[a-z0-9][a-z0-9+.-]+$` // Debian policy 5.6.1
	suiteForm    = `^[a-z][a-z0-9-]*$`
	hostnameForm = `^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$` // one label (RFC 1123)
)

func (o *DebianOptions) check() error {
	o.Hostname = cmp.Or(o.Hostname, "debian")
	for _, p := range o.Include {
		if !matches(packageForm, p) {
			return inputErrorf("%q is not a valid package name", p)
		}
	}
	switch {
	case o.Suite != "" && !matches(suiteForm, o.Suite):
		return inputErrorf("%q is not a valid release name", o.Suite)
	case !matches(hostnameForm, o.Hostname):
		return inputErrorf("%q is not a valid host name", o.Hostname)
	case strings.ContainsAny(o.RootPassword, "\n\x00"):
		return inputErrorf("the root password must be a single line")
	}
	return nil
}

// Debian creates an image of a small Debian that boots to a login on its serial console. It calls
// Begin, Build.Debian and Close.
func Debian(ctx context.Context, path string, force bool, opt Options, deb DebianOptions) error {
	return build(path, force, func(b *Build) error { return b.Debian(ctx, opt, deb) })
}

// Debian creates the build's image from packages that come from the host's own package sources and
// are verified with the host's keys. mmdebstrap unpacks and configures the packages. Without root,
// mmdebstrap does so in a user namespace, which requires a range of IDs for the user in /etc/subuid
// and /etc/subgid.
func (b *Build) Debian(ctx context.Context, opt Options, deb DebianOptions) error {
	opt.FS, opt.Label = cmp.Or(opt.FS, Ext4), cmp.Or(opt.Label, "root")
	if opt.FS != Ext4 {
		return inputErrorf("cannot install Debian on %s: its root file system must be writable: use ext4", opt.FS)
	}
	if err := errors.Join(opt.Check(), deb.check()); err != nil {
		return err
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return err
	}
	codename := ""
	if m := regexp.MustCompile(`(?m)^\s*VERSION_CODENAME=["']?([^"'\s]*)`).FindSubmatch(release); m != nil {
		codename = string(m[1])
	}
	all, err := readSources("/etc/apt")
	if err != nil {
		return err
	}
	sources, suite, err := forSuite(all, codename, deb.Suite)
	if err != nil {
		return err
	}
	tree, err := b.Tree()
	if err != nil {
		return err
	}
	if err := b.bootstrap(ctx, tree, opt, deb, sources, suite); err != nil {
		return err
	}
	// One machine may have two of these disks, with the same label, so each image gets its own
	// UUID.
	opt.UUID = cmp.Or(opt.UUID, randomUUID())
	if err := settle(tree, opt.UUID, deb.Hostname, sources); err != nil {
		return err
	}
	if opt.SizeBytes == 0 {
		opt.SizeBytes = max(debianRoom, measure(tree).comfortable())
	}
	return b.FromTree(ctx, tree, opt)
}

// passwordHook sets root's password with the guest's chpasswd, so that the guest's login accepts
// the hash.
const passwordHook = `printf 'root:%s\n' "$MINIVMM_ROOT_PASSWORD" | chroot "$1" chpasswd`

// bootstrapDir returns the folder in which mmdebstrap installs the packages: the first candidate
// whose mount allows running programs and, for root, device nodes. The candidates are the folder
// for temporary files and, for root, the build's own folder. Without root, mmdebstrap becomes a
// user who cannot access the build's folder. The function flags returns the mount flags of a
// folder, as statfs(2) does.
func bootstrapDir(own string, root bool, flags func(dir string) (int64, error)) (string, error) {
	dirs, bars, words := []string{os.TempDir()}, int64(unix.ST_NOEXEC), "noexec"
	if root {
		dirs, bars, words = append(dirs, own), bars|unix.ST_NODEV, "noexec or nodev"
	}
	for _, dir := range dirs {
		has, err := flags(dir)
		if err != nil {
			return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		if has&bars == 0 {
			return dir, nil
		}
	}
	return "", fmt.Errorf("disk: cannot install Debian in %s: its file system is mounted %s: set TMPDIR to a folder on another file system: %w",
		strings.Join(dirs, " or "), words, errors.ErrUnsupported)
}

func mountFlags(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return st.Flags, err
}

// bootstrap runs mmdebstrap, which writes a tar archive, and adds the contents of the archive to
// the tree.
func (b *Build) bootstrap(ctx context.Context, tree *filetree.Tree, opt Options, deb DebianOptions, sources []source, suite string) error {
	what := "creating a Debian disk"
	packages := []string{"mmdebstrap"}
	if os.Geteuid() != 0 {
		packages = append(packages, "uidmap")
	}
	mmdebstrap, err := findTool(ctx, opt.Install, what, packages[0], strings.Join(packages, " "))
	if err != nil {
		return err
	}
	temp, err := bootstrapDir(b.dir, os.Geteuid() == 0, mountFlags)
	if err != nil {
		return err
	}
	list := filepath.Join(b.dir, "debian.sources")
	settings := filepath.Join(b.dir, "apt.conf")
	text, err := aptSettings(ctx)
	if err == nil {
		err = errors.Join(os.WriteFile(list, []byte(formatSources(sources)), 0o600), os.WriteFile(settings, text, 0o600))
	}
	if err != nil {
		return err
	}
	include := strings.Join(slices.Concat(debianPackages, deb.Include), ",")
	args := []string{"--variant=minbase", "--format=tar", "--include=" + include, "--aptopt=" + settings}
	if deb.RootPassword != "" {
		args = append(args, "--customize-hook="+passwordHook)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	from, to := io.Pipe()
	t := newTool(ctx, "/", mmdebstrap, append(args, suite, "-", list)...)
	t.Env = append(t.Env, "DEBIAN_FRONTEND=noninteractive", "TMPDIR="+temp, "MINIVMM_ROOT_PASSWORD="+deb.RootPassword)
	t.WaitDelay = unpackGrace
	t.Stdout, t.Stderr = to, &lineWriter{do: func(line string) {
		if text, ok := strings.CutPrefix(line, "I: "); ok && deb.Log != nil {
			deb.Log(text)
		}
	}}
	added := make(chan struct{})
	go func() {
		defer close(added)
		err := tree.AddTar(ctx, bufio.NewReaderSize(from, 1<<20))
		if err != nil {
			stop(err)
		}
		from.CloseWithError(err)
	}()
	_, _, err = t.run()
	if err != nil && ctx.Err() == nil && os.Geteuid() != 0 {
		err = fmt.Errorf("%w\nwithout root, mmdebstrap requires user namespaces and a range for this user in /etc/subuid and /etc/subgid (package uidmap), see subuid(5)", err)
	}
	to.CloseWithError(err) // if err is nil, the reader gets io.EOF
	<-added
	return cmp.Or(err, context.Cause(ctx))
}

// aptSettings returns the host's apt settings for downloads: proxies, certificates, retries, and
// the date checks of release files. These settings are not copied to the guest.
func aptSettings(ctx context.Context) ([]byte, error) {
	path := lookTool("apt-config")
	if path == "" {
		return nil, fmt.Errorf("disk: apt-config not found: installing Debian needs apt and its package sources on this host: %w", errors.ErrUnsupported)
	}
	out, _, err := newTool(ctx, "", path, "dump", "--no-empty").run()
	if err != nil {
		return nil, err
	}
	lines := regexp.MustCompile(`(?m)^Acquire::(https?|ftp|Check-|Retries).*\n`)
	return bytes.Join(lines.FindAll(out, -1), nil), nil
}
